"""Predictors on published latency tables, beside the noise floor; and how fast they are.

The folder holds ``nb201_latency.parquet``, ``nb201_compiled_latency.parquet``, ``nb201_tensorrt_latency.parquet``,
``fbnet_latency.parquet`` and ``ofa_latency.parquet``: a column ``arch`` and one of milliseconds for each device. Of
NAS-Bench-201, a structure is trained on or tested once, however many cells compute it, cells that are one network with
its nodes numbered otherwise are measured twice (their disagreement is the floor), and cells without a live path are
left out. The split of the TensorRT table is the published one. The protocol of HELP (Lee et al., NeurIPS 2021) asks for
the rank correlation from ten values of a new device: they and the test cells are from the middle 80% by latency.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from benchmarks.machine import header, table
from latbench.prediction.evaluation.metrics import Accuracy
from latbench.prediction.fit import fit
from latbench.prediction.plugin import fit_estimator
from latbench.prediction.structure.networks import are_alive, twin_labels
from latbench.prediction.trained import predict_values
from latbench.predictor import Context, Source
from latbench.records.noise_floor import noise_floor
from latbench.spaces.mobile.fbnet import FbnetSpace
from latbench.spaces.mobile.ofa import OfaSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.testing.additive_profile import additive_profile

SIZES = (20, 100, 900)
GOALS: dict[str, tuple[float | None, float | None, float | None]] = {
    "jetson_nano": (4.2, 3.0, 2.5),
    "raspi4": (10.0, 7.5, 7.0),
    "pixel3": (None, None, None),
    "snapdragon855_gpu": (None, None, None),
    "gold_6226": (3.5, 2.5, 2.9),
    "titan_rtx_256": (0.55, 0.35, 0.33),
    "silver_4114": (None, 7.2, None),
}
"""Percent at each of `SIZES`; None where nothing but the figure itself is asked for."""

HELP_SOURCES = (
    *("1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", "samsung_a50"),
    *("pixel3", "essential_ph_1", "samsung_s7"),
)
HELP_TEST = ("titan_rtx_256", "gold_6226", "fpga", "pixel2")

Row = dict[str, str | float | bool | None]


@dataclass(frozen=True, slots=True)
class Table:
    """The live cells of one device.

    Args:
        X: encodings ``(n, columns)``.
        y: values in ms ``(n,)``.
        structures: which cells compute the same ``(n,)``.
        networks: which cells run the same, dead operations included ``(n,)``.
    """

    X: NDArray[np.float32]
    y: NDArray[np.float64]
    structures: NDArray[np.int64]
    networks: NDArray[np.int64]

    def split(self, size: int, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of `size` structures and those of all others, one row a structure."""
        order = np.random.default_rng(seed).permutation(len(self.y))
        _, first = np.unique(self.structures[order], return_index=True)
        rows = order[np.sort(first)]
        return rows[:size], rows[size:]

    def twins(self) -> NDArray[np.float64]:
        """Return the values of pairs of cells that are one network ``(pairs, 2)``."""
        order = np.argsort(self.networks, kind="stable")
        same = np.flatnonzero(np.diff(self.networks[order]) == 0)
        return np.column_stack([self.y[order[same]], self.y[order[same + 1]]])


Split = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The rows of a table to train on and to test on."""


def read(folder: Path) -> dict[str, Table]:
    """Return the tables of the devices in `GOALS`."""
    space = NasBench201Space()
    tables = {}
    for name in ("nb201_latency", "nb201_compiled_latency"):
        columns = pq.read_table(folder / f"{name}.parquet").to_pydict()
        cells = [space.parse(text) for text in columns["arch"]]
        canonical = [cell.canonical() for cell in cells]
        structures = np.unique(canonical, return_inverse=True)[1]
        X = space.encode(cells)
        networks = twin_labels(space.graphs(), space.columns, X)
        assert networks is not None
        live = are_alive(space.graphs(), space.columns, X)
        for device in GOALS.keys() & columns.keys():
            y = np.array(columns[device], dtype=np.float64)
            kept = live & np.isfinite(y)
            tables[device] = Table(X[kept], y[kept], structures[kept], networks[kept])
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the tables")
    parser.add_argument("--predictors", nargs="+", default=["stack", "mlp", "additive"])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--devices", nargs="+", default=list(GOALS), choices=list(GOALS), help="of nasbench201")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [row for part in arguments.parts for row in PARTS[part](arguments)]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(header(f"Predictors on published tables, medians of {arguments.seeds} random splits"))
    print(table(list(rows[0]), [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]))


def row(work: str, value: float, goal: float | None, *, more: bool = False, floor: float | None = None) -> Row:
    """Return one figure; `more` says that more is better."""
    met = None if goal is None else (value >= goal if more else value <= goal)
    return {"work": work, "value": float(f"{value:.4g}"), "goal": goal, "met": met, "floor": floor}


def nasbench201(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield the MAPE on devices that measured all cells."""
    space, tables = NasBench201Space(), read(arguments.data)
    context = Context(space.columns, graphs=space.graphs())
    for device in arguments.devices:
        found = noise_floor(tables[device].twins()).mape
        floor = None if found is None else round(100 * found, 3)
        for predictor in arguments.predictors:
            for size, goal in zip(SIZES, GOALS[device], strict=True):
                splits = [tables[device].split(size, seed=seed) for seed in range(arguments.seeds)]
                error = median_error(tables[device], splits, predictor, context)
                yield row(f"{predictor} on {device}, {size} architectures: MAPE, %", error, goal, floor=floor)


def tensorrt(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield the MAPE on the published test cells of a GTX 1660 with TensorRT 7.1."""
    space, columns = NasBench201Space(), pq.read_table(arguments.data / "nb201_tensorrt_latency.parquet").to_pydict()
    (device,) = columns.keys() - {"arch", "split", "isomorphic_group"}
    cells = [space.parse(text) for text in columns["arch"]]
    measured = Table(space.encode(cells), np.array(columns[device]), np.arange(len(cells)), np.arange(len(cells)))
    test, train = (np.flatnonzero([split == part for split in columns["split"]]) for part in ("test", "train"))
    context = Context(space.columns, graphs=space.graphs())
    for predictor in arguments.predictors:
        for size, goal in ((20, 2.5), (100, 1.8), (len(train), 0.75)):
            drawn = [np.random.default_rng(seed).permutation(train)[:size] for seed in range(arguments.seeds)]
            splits = [(rows, test) for rows in (drawn if size < len(train) else drawn[:1])]
            error = median_error(measured, splits, predictor, context)
            yield row(f"{predictor} on TensorRT, {size} architectures: MAPE, %", error, goal)


def mobile(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield the MAPE on FBNet and Once-for-All, trained on 900."""
    goals: dict[tuple[str, str], float | None] = {("fbnet", "titan_rtx_64"): 0.30, ("fbnet", "gold_6240"): None}
    goals |= {("ofa", "titan_rtx_64"): 1.2, ("ofa", "v100_1"): None}
    for space in (FbnetSpace(), OfaSpace()):
        columns = pq.read_table(arguments.data / f"{space.name}_latency.parquet").to_pydict()
        X = space.encode([space.parse(text) for text in columns["arch"]])
        context = Context(space.columns, graphs=tuple(space.graphs()))
        for device in (device for name, device in goals if name == space.name):
            measured = Table(X, np.array(columns[device]), np.arange(len(X)), np.arange(len(X)))
            for predictor in arguments.predictors:
                splits = [measured.split(900, seed=seed) for seed in range(arguments.seeds)]
                error = median_error(measured, splits, predictor, context)
                goal = goals[space.name, device]
                yield row(f"{predictor} on {space.name}, {device}, 900 architectures: MAPE, %", error, goal)


def help_protocol(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield the mean rank correlation on HELP's test devices that the table has."""
    space, columns = NasBench201Space(), pq.read_table(arguments.data / "nb201_latency.parquet").to_pydict()
    X = space.encode([space.parse(text) for text in columns["arch"][:1900]])
    y = {device: np.array(columns[device][:1900], dtype=np.float64) for device in (*HELP_SOURCES, *HELP_TEST)}
    sources = tuple(Source(device, X[:900], y[device][:900]) for device in HELP_SOURCES)
    context = Context(space.columns, sources=sources, graphs=space.graphs())

    def middle(values: NDArray[np.float64]) -> NDArray[np.intp]:
        order = np.argsort(values, kind="stable")
        return order[len(order) // 10 : len(order) - len(order) // 10]

    for size, goal in ((10, 0.955), (20, None)):
        found = []
        for device in HELP_TEST:
            train, test = middle(y[device][:900]), 900 + middle(y[device][900:])
            for seed in range(4 * arguments.seeds):
                drawn = np.random.default_rng(seed).choice(train, size, replace=False)
                estimator = fit_estimator("transfer", X[drawn], y[device][drawn], context=context, seed=seed)
                found.append(Accuracy.of(y[device][test], estimator.predict(X[test])).spearman)
        yield row(f"transfer, HELP's protocol, {size} values: mean Spearman", float(np.mean(found)), goal, more=True)


def speed(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield predictions a second, microseconds of one query, and seconds of a fit to 1,000 rows, on one core."""
    profile = additive_profile(1100, noise=0.02)
    rates, fits = {"mlp": 1e6, "gbdt": 2e5}, {"additive": 0.5, "gbdt": 1.0, "mlp": 5.0, "stack": 20.0}
    X = np.repeat(profile.X, 10, axis=0)[:10_000]
    torch.set_num_threads(1)
    for predictor, most in fits.items():
        start = time.perf_counter()
        trained = fit(profile, predictor, samples=1000)
        yield row(f"{predictor}: seconds to fit 1,000 rows", time.perf_counter() - start, most)
        if predictor in rates:
            whole, one = seconds(partial(trained.predict, X), 9), seconds(partial(trained.predict, X[:1]), 300)
            yield row(f"{predictor}: predictions a second", len(X) / whole, rates[predictor], more=True)
            yield row(f"{predictor}: microseconds of one query", 1e6 * one, 60)


def seconds(call: Callable[[], object], times: int) -> float:
    """Return the median seconds of a call."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def median_error(measured: Table, splits: Sequence[Split], predictor: str, context: Context) -> float:
    """Return the median MAPE of some splits, in percent."""
    errors = []
    for seed, (train, test) in enumerate(splits):
        estimator = fit_estimator(predictor, measured.X[train], measured.y[train], context=context, seed=seed)
        errors.append(Accuracy.of(measured.y[test], predict_values(estimator, measured.X[test], predictor)).mape)
    return 100 * float(np.median(errors))


PARTS = {
    "nasbench201": nasbench201,
    "tensorrt": tensorrt,
    "mobile": mobile,
    "help": help_protocol,
    "speed": speed,
}

if __name__ == "__main__":
    main()

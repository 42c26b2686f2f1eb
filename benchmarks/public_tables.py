"""MAPE on published latency tables of NAS-Bench-201, from few architectures, beside the noise floor.

The folder holds ``nb201_latency.parquet`` and ``nb201_compiled_latency.parquet``: a column ``arch`` and one of
milliseconds for each device. A structure is trained on or tested once, however many cells compute it. Cells that
are one network with its nodes numbered otherwise are measured twice: their disagreement is the floor. Cells without a
live path are left out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.machine import header, table
from latbench.prediction.evaluation.metrics import Accuracy
from latbench.prediction.plugin import fit_estimator
from latbench.prediction.structure.networks import are_alive, twin_labels
from latbench.prediction.trained import predict_values
from latbench.predictor import Context
from latbench.records.noise_floor import noise_floor
from latbench.spaces.nasbench201 import NasBench201Space

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
    parser.add_argument("--predictors", nargs="+", default=["mlp", "additive"])
    parser.add_argument("--devices", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    space, tables = NasBench201Space(), read(arguments.data)
    context = Context(space.columns, graphs=space.graphs())
    rows = []
    for device in arguments.devices:
        floor = noise_floor(tables[device].twins()).mape
        for predictor in arguments.predictors:
            for size, goal in zip(SIZES, GOALS[device], strict=True):
                value = error(tables[device], predictor, context, size, arguments.seeds)
                rows.append(
                    {
                        "work": f"{predictor} on {device}, {size} architectures: MAPE, %",
                        "value": round(value, 3),
                        "goal": goal,
                        "met": None if goal is None else value <= goal,
                        "floor": None if floor is None else round(100 * floor, 3),
                    }
                )
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(header(f"Predictors on published tables: NAS-Bench-201, medians of {arguments.seeds} random splits"))
    print(table(list(rows[0]), [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]))


def error(measured: Table, predictor: str, context: Context, size: int, seeds: int) -> float:
    """Return the median MAPE of some splits, in percent."""
    errors = []
    for seed in range(seeds):
        train, test = measured.split(size, seed=seed)
        estimator = fit_estimator(predictor, measured.X[train], measured.y[train], context=context, seed=seed)
        errors.append(Accuracy.of(measured.y[test], predict_values(estimator, measured.X[test], predictor)).mape)
    return 100 * float(np.median(errors))


if __name__ == "__main__":
    main()

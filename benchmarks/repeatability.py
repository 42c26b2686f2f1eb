"""How well each way of measuring repeats: the same architectures in fresh processes, quiet and beside a busy process.

Ways: 100 back-to-back runs and their median; the mean of 50; ``torch.utils.benchmark``; latbench. For each: the noise
floor (the MAPE of a perfect predictor), robust and rms CV, the share of values off by more than 5%, how often the
stated 95% interval holds the truth, and the rank correlation with the truth. Truth is the way's own mean over all
processes, so that no way is judged by another's idea of a latency.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch.utils.benchmark import Timer

from benchmarks.machine import header, table
from latbench.backend import CompileOptions
from latbench.measure.settings import Settings
from latbench.measure.workers.request import SessionRequest
from latbench.records.subjects import Subject, architecture_model, references
from latbench.space import Architecture, SpaceSpec
from latbench.spaces.darts import DartsSpace

SPACE = DartsSpace()
Interval = tuple[float, float, float]
"""Value, lower and upper end of its 95% interval."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", type=int, default=13)
    parser.add_argument("--processes", type=int, default=16, help="fresh processes for each way")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    architectures = SPACE.sample(arguments.architectures, seed=7)
    if arguments.one:
        torch.set_num_threads(1)
        print(json.dumps(WAYS[arguments.one](architectures, arguments.seed)))
        return
    print(header("Repeatability: DARTS, 8 cells, C=16, 1x3x32x32, ONNX Runtime CPU, one thread"))
    columns = ["way", "s each", "floor", "robust CV", "rms CV", "off > 5%", "95% interval holds", "Spearman"]
    for name, condition in (("quiet", quiet), ("beside a busy process", busy)):
        rows = []
        with condition():
            # The ways take turns, so that they meet the same machine.
            values: dict[str, list[list[Interval]]] = {way: [] for way in WAYS}
            seconds = dict.fromkeys(WAYS, 0.0)
            for seed in range(arguments.processes):
                for way in WAYS:
                    start = time.perf_counter()
                    values[way].append(in_fresh_process(way, seed, arguments.architectures))
                    seconds[way] += time.perf_counter() - start
        for way in WAYS:
            each = seconds[way] / arguments.processes / arguments.architectures
            rows.append([way, f"{each:.2f}", *summary(np.array(values[way]))])
        print(f"\n{name}, {arguments.processes} processes of {arguments.architectures} architectures\n")
        print(table(columns, rows), flush=True)


def summary(measured: NDArray[np.float64]) -> list[str]:
    """Return the figures of one way from ``(processes, architectures, 3)``."""
    logs = np.log(measured[:, :, 0])
    truth = logs.mean(axis=0)
    # A mean over n processes holds a part 1/n of each value's own error.
    error = (logs - truth) * np.sqrt(len(logs) / (len(logs) - 1))
    low, high = np.log(measured[:, :, 1]), np.log(measured[:, :, 2])
    ranks = [spearmanr(row, truth).statistic for row in logs]
    return [
        f"{np.abs(error).mean():.2%}",
        f"{1.4826 * np.median(np.abs(error)):.2%}",
        f"{np.sqrt((error**2).mean()):.2%}",
        f"{(np.abs(error) > np.log(1.05)).mean():.1%}",
        f"{((low <= truth) & (truth <= high)).mean():.0%}",
        f"{np.mean(ranks):.3f}",
    ]


def in_fresh_process(way: str, seed: int, architectures: int) -> list[Interval]:
    command = [sys.executable, "-m", "benchmarks.repeatability", "--one", way, "--seed", str(seed)]
    run = subprocess.run([*command, "--architectures", str(architectures)], capture_output=True, text=True, check=True)
    values: list[Interval] = json.loads(run.stdout)
    return values


def back_to_back(runs: int, location: Callable[[NDArray[np.float64]], float]) -> Callable[..., list[Interval]]:
    def measure(architectures: list[Architecture], seed: int) -> list[Interval]:
        return [_bootstrapped(_timed(_session(a), runs), location, seed) for a in architectures]

    return measure


def torch_benchmark(architectures: list[Architecture], seed: int) -> list[Interval]:
    values = []
    for architecture in architectures:
        measured = Timer("run()", globals={"run": _session(architecture)}).blocked_autorange(min_run_time=0.2)
        values.append(_bootstrapped(np.array(measured.times) * 1e3, np.median, seed))
    return values


def latbench(architectures: list[Architecture], seed: int) -> list[Interval]:
    subjects = (*references(SPACE), *(Subject("architecture", str(a)) for a in architectures))
    settings = Settings(verify="none")
    request = SessionRequest("s", "onnxruntime", CompileOptions(), settings, SpaceSpec.of(SPACE), 1, seed, subjects)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    measured = {m.subject: m for m in request.run(lambda phase, index: None).measurements if m.kind == "architecture"}
    values = [measured[str(a)] for a in architectures]
    return [(m.value / (m.reference or 1), m.low / (m.reference or 1), m.high / (m.reference or 1)) for m in values]


WAYS: dict[str, Callable[..., list[Interval]]] = {
    "median of 100 back-to-back runs": back_to_back(100, np.median),
    "mean of 50 back-to-back runs": back_to_back(50, np.mean),
    "torch.utils.benchmark": torch_benchmark,
    "latbench": latbench,
}


@contextmanager
def quiet() -> Iterator[None]:
    yield


@contextmanager
def busy() -> Iterator[None]:
    """Keep one process busy beside the measurements: computing, streaming memory and sleeping in turns."""
    process = multiprocessing.Process(target=_burn, daemon=True)
    process.start()
    yield
    process.terminate()
    process.join()


def _burn() -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal(8_000_000)
    while True:
        until = time.monotonic() + rng.uniform(0.05, 1.5)
        while time.monotonic() < until:
            data[::-1].sum()
        time.sleep(rng.uniform(0.0, 0.5))


def _session(architecture: Architecture) -> Callable[[], object]:
    model = architecture_model(SPACE, architecture)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: model.inputs["x"]}
    return lambda: session.run(None, feed)


def _timed(run: Callable[[], object], runs: int) -> NDArray[np.float64]:
    for _ in range(10):
        run()
    ms = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        ms.append((time.perf_counter() - start) * 1e3)
    return np.array(ms)


def _bootstrapped(ms: NDArray[np.float64], location: Callable[[NDArray[np.float64]], float], seed: int) -> Interval:
    """Return the usual interval: the bootstrap over the runs of one process."""
    rng = np.random.default_rng(seed)
    again = [float(location(rng.choice(ms, len(ms)))) for _ in range(500)]
    return float(location(ms)), float(np.quantile(again, 0.025)), float(np.quantile(again, 0.975))


if __name__ == "__main__":
    main()

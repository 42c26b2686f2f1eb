"""Whether latbench says the same as ``torch.utils.benchmark`` and a plain loop: one model, three ways in turns.

Every round visits the model in all three ways, in random order, six runs a visit, so that drift and memory layout
affect them alike. Medians are compared with medians; then latbench's own statistic, the lower quartile over visits of
the fastest run, with the same statistic of the loop.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.benchmark import Timer

from benchmarks.machine import header, table
from latbench import plugins
from latbench.backend import Compiled, CompileOptions
from latbench.measure.estimate import QUANTILE
from latbench.measure.settings import Settings
from latbench.records.subjects import architecture_model
from latbench.spaces.darts import DartsSpace

RUNS = Settings().runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    space = DartsSpace()
    backend = plugins.configure(plugins.BACKENDS, "onnxruntime", {})
    print(header("Agreement: DARTS nets on ONNX Runtime CPU, one thread, three ways in turns"))
    rows = []
    for number, architecture in enumerate(space.sample(arguments.models, seed=5), start=1):
        with backend.compile(architecture_model(space, architecture), CompileOptions()) as compiled:
            loop, timer, ours = in_turns(compiled, arguments.rounds)
        medians = np.array([np.median(loop), np.median(timer), np.median(ours)])
        values = np.quantile(loop.min(axis=1), QUANTILE), np.quantile(ours.min(axis=1), QUANTILE)
        ratios = medians[1] / medians[0], medians[2] / medians[0], values[1] / values[0]
        rows.append([f"net {number}", *(f"{figure:.3f}" for figure in (*medians, values[1], *ratios))])
    print(
        table(
            [
                *("model", "loop ms", "torch.utils.benchmark ms", "latbench's clock ms", "latbench's value ms"),
                *("torch / loop", "clock / loop", "value / loop's same statistic"),
            ],
            rows,
        )
    )


def in_turns(compiled: Compiled, rounds: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return ms: of a loop ``(rounds, runs)``, of torch ``(rounds,)``, on latbench's clock ``(rounds, runs)``."""
    timer = Timer("run()", globals={"run": compiled.run})
    rng = np.random.default_rng(0)
    loop, means, ours = [], [], []
    for _ in range(rounds):
        for way in rng.permutation(3):
            compiled.run()
            if way == 0:
                loop.append([_wall_ms(compiled) for _ in range(RUNS)])
            elif way == 1:
                means.append(timer.timeit(RUNS).mean * 1e3)
            else:
                ours.append([compiled.run() * 1e3 for _ in range(RUNS)])
    return np.array(loop), np.array(means), np.array(ours)


def _wall_ms(compiled: Compiled) -> float:
    start = time.perf_counter()
    compiled.run()
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    main()

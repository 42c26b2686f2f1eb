"""Whether latbench says the same as ``torch.utils.benchmark`` and a plain loop: one model, three ways, in turns.

Each turn measures the model in all three ways, so that drift meets them alike. The
figure is the median over turns of the ratio to the plain loop.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch
from torch.utils.benchmark import Timer

from benchmarks.machine import header, table
from latbench import plugins
from latbench.backend import Compiled, CompileOptions
from latbench.measure import measure_model
from latbench.measure.settings import Settings
from latbench.model import Model
from latbench.spaces.darts import DartsSpace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    space = DartsSpace()
    print(header("Agreement: DARTS nets on ONNX Runtime CPU, one thread, three ways in turns"))
    rows = []
    for number, architecture in enumerate(space.sample(arguments.models, seed=5), start=1):
        model = Model.from_architecture(space, architecture)
        values = np.array([one_turn(model) for _ in range(arguments.turns)])
        loop, timer, ours = np.median(values, axis=0)
        ratios = np.median(values / values[:, :1], axis=0)
        figures = (loop, timer, ours, ratios[1], ratios[2])
        rows.append([f"net {number}", *(f"{figure:.3f}" for figure in figures)])
    columns = ["model", "loop ms", "torch.utils.benchmark ms", "latbench ms", "torch / loop", "latbench / loop"]
    print(table(columns, rows))


def one_turn(model: Model) -> tuple[float, float, float]:
    """Return the median of a plain loop, that of ``torch.utils.benchmark``, and latbench's value, in ms."""
    backend = plugins.configure(plugins.BACKENDS, "onnxruntime", {})
    with backend.compile(model, CompileOptions()) as compiled:
        loop = plain_loop(compiled)
        timer = Timer("run()", globals={"run": compiled.run}).blocked_autorange(min_run_time=0.2).median * 1e3
    return loop, timer, measure_model(model, "onnxruntime", settings=Settings(verify="none")).value


def plain_loop(compiled: Compiled, runs: int = 100) -> float:
    """Return the median wall milliseconds of back-to-back runs."""
    for _ in range(10):
        compiled.run()
    ms = []
    for _ in range(runs):
        start = time.perf_counter()
        compiled.run()
        ms.append((time.perf_counter() - start) * 1e3)
    return float(np.median(ms))


if __name__ == "__main__":
    main()

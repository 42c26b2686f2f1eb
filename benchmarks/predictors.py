"""MAPE of every predictor on DARTS architectures measured on ONNX Runtime, beside the noise floor."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.machine import header, table
from latbench.prediction.evaluation.comparison import compare
from latbench.profiling import profile_space
from latbench.spaces.darts import DartsSpace
from latbench.store import Store

PREDICTORS = ("mlp", "gbdt", "lookup", "ridge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("runs/benchmark-darts.db"), help="made, or continued")
    parser.add_argument("--samples", type=int, default=450)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 100, 300])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    print(header("Predictors: DARTS, 8 cells, C=16, 1x3x32x32, ONNX Runtime CPU, one thread"))
    profile_space(DartsSpace(), "onnxruntime", arguments.store, samples=arguments.samples, with_operations=True)
    with Store(arguments.store) as opened:
        comparison = compare(opened.profile(), PREDICTORS, train_sizes=arguments.sizes, seeds=arguments.seeds)
    print(table(*comparison.table()))
    print(
        f"{arguments.samples} architectures, {comparison.seeds} random splits, at least {comparison.test_size} to test"
    )
    print(f"noise floor: {comparison.noise_floor}")


if __name__ == "__main__":
    main()

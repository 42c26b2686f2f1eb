"""How long TensorRT-RTX takes to build an engine, which needs no GPU: DARTS and NAS-Bench-201, fp32 and fp16."""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.machine import header, table
from latbench.backend import CompileOptions
from latbench.records.subjects import architecture_model
from latbench.space import SearchSpace
from latbench.spaces.darts import DartsSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench_tensorrt import build_engine

SPACES: dict[str, SearchSpace] = {
    "DARTS, 8 cells, C=16": DartsSpace(),
    "NAS-Bench-201": NasBench201Space(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=10)
    arguments = parser.parse_args()
    print(header("Building engines with TensorRT-RTX for compute capability 8.6, no GPU"))
    rows = []
    for name, space in SPACES.items():
        models = [architecture_model(space, a) for a in space.sample(arguments.networks, seed=2)]
        for precision in ("fp32", "fp16"):
            engines = [build_engine(model, CompileOptions(precision), capability="8.6") for model in models]
            ms = np.array([engine.build_ms for engine in engines])
            figures = (f"{np.median(ms):.0f}", f"{ms.min():.0f} - {ms.max():.0f}")
            layers = f"{np.median([len(engine.layers) for engine in engines]):.0f}"
            mib = f"{np.median([len(engine.data) for engine in engines]) / 2**20:.2f}"
            rows.append([name, precision, *figures, layers, mib])
    print(table(["space", "precision", "ms, median", "least - most", "layers", "engine MiB"], rows))


if __name__ == "__main__":
    main()

"""How many DARTS architectures an hour, where the time goes, and how that compares with the usual pipeline.

The usual pipeline is one ``torch.onnx.export``, a fresh session and 50 runs for each architecture; both run here.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.machine import header, table
from latbench.measure.settings import Settings
from latbench.profiling import profile_space
from latbench.spaces.darts import DartsSpace
from latbench.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=260)
    parser.add_argument("--usual", type=int, default=5, help="architectures for the usual pipeline")
    parser.add_argument("--half-width", type=float, default=0.02)
    parser.add_argument("--max-rounds", type=int, default=16)
    arguments = parser.parse_args()
    settings = Settings(half_width=arguments.half_width, max_rounds=arguments.max_rounds)
    space = DartsSpace()
    print(header("Throughput: DARTS, 8 cells, C=16, 1x3x32x32, ONNX Runtime CPU, one thread"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        start = time.perf_counter()
        summary = profile_space(space, "onnxruntime", path, samples=arguments.samples, settings=settings)
        seconds = time.perf_counter() - start
        with Store(path) as opened:
            built = sum(m.build_ms for m in opened.measurements()) * 1e-3
    progress = summary.progress
    per_hour = progress.measured / seconds * 3600
    usual = usual_pipeline(space, arguments.usual)
    phases = {"build": built, "compile": progress.phases["build and compile"] - built, **progress.phases}
    del phases["build and compile"]
    # Sampling, starting workers, waiting for them; where a core is spare, less what compiled while another was timed.
    phases["everything else"] = seconds - progress.phases.total()
    rows = [[name, f"{value / progress.measured * 1e3:.1f}"] for name, value in phases.items()]
    rows.append(["all", f"{seconds / progress.measured * 1e3:.1f}"])
    print(table(["phase", "ms per architecture"], rows))
    print(f"{progress.measured} measurements, blind duplicates included; flags {dict(progress.flags)}")
    print(f"noise floor: {summary.noise_floor}")
    ratio = per_hour * usual / 3600
    print(f"{per_hour:,.0f} an hour; the usual pipeline in the same run: {3600 / usual:,.0f} an hour ({ratio:.0f}x)")


def usual_pipeline(space: DartsSpace, samples: int) -> float:
    """Return seconds per architecture of export, session and 50 runs."""
    times = []
    for architecture in space.sample(samples, seed=1):
        start = time.perf_counter()
        module = space.build(architecture).eval()
        x = torch.randn(1, 3, space.image, space.image)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = f"{folder}/net.onnx"
            torch.onnx.export(module, (x,), path, dynamo=True, verbose=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: x.numpy()}
        for _ in range(50):
            session.run(None, feed)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


if __name__ == "__main__":
    main()

"""TensorRT: build and run on this GPU, outputs compared with torch, and the statistics that ``trtexec`` prints."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.gpu.job import Job, options
from latbench.backend import Compiled, CompileOptions
from latbench.measure.verify import verify_outputs
from latbench.model import Model

VARIANTS = tuple(
    options(precision, launch=launch, time=clock)
    for precision in ("fp32", "fp16")
    for launch, clock in (("graph", "gpu"), ("enqueue", "gpu"), ("graph", "e2e"), ("enqueue", "e2e"))
)


def run(job: Job) -> None:
    name = job.backend if job.dry else "tensorrt"
    if job.dry:
        job.row("tensorrt", "the dry run takes torch on the CPU in its place", status="not run")
    with job.part("tensorrt"):
        backend = job.open_backend(name)
        for batch in (1, job.batch):
            model = job.net(batch)
            for given in (options(), options("bf16")) if job.dry else VARIANTS:
                what = " ".join(["batch", str(batch), given.precision, *given.options.values()])
                if job.is_over(what):
                    continue
                with job.part(what), backend.compile(model, given) as compiled:
                    check(job, what, model, compiled, given)


def check(job: Job, what: str, model: Model, compiled: Compiled, given: CompileOptions) -> None:
    """Compare the outputs with torch's, and time back-to-back calls."""
    for _ in range(10):
        compiled.run()
    verify_outputs(compiled, model, given.precision)
    ms: list[float] = []
    start = time.monotonic()
    while len(ms) < job.some(1000, 20) and time.monotonic() - start < job.some(2, 1):
        ms.append(compiled.run() * 1e3)
    told = statistics(np.array(ms))
    told["throughput"] = next(iter(model.inputs.values())).shape[0] * len(ms) / (time.monotonic() - start)
    job.row(what, ", ".join(f"{name} {value:.4g}" for name, value in told.items()), {"clock": compiled.clock, **told})


def statistics(ms: np.ndarray) -> dict[str, float]:
    """Return what ``trtexec`` prints of a series of latencies, in ms."""
    p90, p95, p99 = np.percentile(ms, [90, 95, 99])
    return {
        "min": float(ms.min()),
        "mean": float(ms.mean()),
        "median": float(np.median(ms)),
        "p90": float(p90),
        "p95": float(p95),
        "p99": float(p99),
    }

"""The variants of the cuda backend side by side: latency with a warm and a cold L2, wall time, launch-bound or not."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Literal

import numpy as np

from benchmarks.gpu.job import Job, options
from benchmarks.networks import resnet18
from latbench.backend import Compiled, CompileOptions, HasFlags
from latbench.measure.rounds import visit_in_rounds
from latbench.measure.settings import Settings
from latbench.measure.verify import verify_outputs
from latbench.measure.workloads import CompiledWorkload, Workload
from latbench.model import Model

VARIANTS = {
    "eager": options(),
    "tf32": options("tf32"),
    "channels-last": options(memory_format="channels_last"),
    "bf16": options("bf16"),
    "bf16 channels-last": options("bf16", memory_format="channels_last"),
    "autocast to bf16": options("bf16", autocast="yes"),
    "graph": options(graph="yes"),
    "bf16 channels-last graph": options("bf16", memory_format="channels_last", graph="yes"),
}
COMPILED = {
    "compiled": options(compile="default"),
    "compiled, reduce-overhead": options(compile="reduce-overhead"),
    "compiled, graph": options(compile="default", graph="yes"),
}
"""Without ``max-autotune``, which takes minutes."""


def run(job: Job) -> None:
    with job.part("device"):
        job.open_backend()
        models = {"DARTS net, batch 1": job.net()}
        if not job.dry:
            models["DARTS net, batch 64"] = job.net(64)
            models["ResNet-18, batch 16"] = resnet(16)
        for name, model in models.items():
            for variant, given in VARIANTS.items():
                show(job, f"{name}, {variant}", model, given)


def run_compiled(job: Job) -> None:
    """Measure what ``torch.compile`` makes of ResNet-18; to compile a cell network takes more than a check has."""
    with job.part("device"):
        job.open_backend()
        for variant, given in COMPILED.items():
            what = f"ResNet-18, batch 16, {variant}"
            if job.dry:
                job.row(what, "compiling takes longer than a dry run may", status="not run")
            else:
                show(job, what, resnet(16), given)


def resnet(batch: int) -> Model:
    network, sample = resnet18()
    return Model.from_module(network, {"x": sample["x"].repeat(batch, 1, 1, 1).numpy()}, name="ResNet-18")


def show(job: Job, what: str, model: Model, given: CompileOptions) -> None:
    """Measure one variant of a model."""
    if job.is_over(what):
        return
    start = time.monotonic()
    with job.part(what), job.open_backend().compile(model, given) as compiled:
        verify_outputs(compiled, model, given.precision)
        ready = time.monotonic() - start
        for _ in range(10):
            compiled.run()
        warm, wall = timed(job, model, compiled, "warm")
        flags = list(compiled.flags()) if isinstance(compiled, HasFlags) else []
        cold, _ = timed(job, model, compiled, "cold")
        job.row(
            what,
            ", ".join([f"{warm:.4f} ms, cold {cold:.4f}, wall {wall:.4f}", *flags]),
            {"warm_ms": warm, "cold_ms": cold, "wall_ms": wall, "flags": flags, "ready_s": ready, **asdict(given)},
        )


def timed(job: Job, model: Model, compiled: Compiled, cache: Literal["warm", "cold"]) -> tuple[float, float]:
    """Return the lower quartile of a model's visits on its own clock, and the median of their wall times, in ms."""
    rounds = job.some(16, 2)
    workload = CompiledWorkload(0, Workload("model", model.name, lambda: model), model, compiled, compile_ms=0.0)
    settings = Settings(min_rounds=rounds, max_rounds=rounds, cache=cache)
    visits, _ = visit_in_rounds([workload], settings, np.random.default_rng(0))
    return float(np.quantile(visits.ms, 0.25)), float(np.median(workload.wall_ms))

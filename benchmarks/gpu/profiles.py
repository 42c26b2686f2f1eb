"""Profiling on the GPU: architectures an hour, and the MAPE of each predictor at 100 / 300 / 1,000 of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from benchmarks.gpu.job import Job
from latbench import plugins
from latbench.measure.settings import Settings
from latbench.prediction.evaluation.comparison import CONSTANT, compare
from latbench.profiling import Summary, profile_space
from latbench.store import Store

TEST = 60
"""Architectures beside the largest training set, to test on."""
PREDICTORS = ("mlp", "gbdt", "lookup", "ridge")
OTHER_SECONDS = 40.0
"""Kept for starting, which a profile's budget leaves out, and for fitting."""


def run(job: Job, batch: int) -> None:
    """Profile and compare; see `measure` and `compare_predictors`."""
    sizes = (8,) if job.dry else (100, 300, 1000)
    path = job.folder / f"batch{batch}.db"
    with job.part("device"):
        job.open_backend()
        measure(job, path, batch, sizes)
        compare_predictors(job, path, batch, sizes)


def run_one(job: Job) -> None:
    run(job, 1)


def run_batch(job: Job) -> None:
    run(job, job.batch)


def measure(job: Job, path: Path, batch: int, sizes: tuple[int, ...]) -> None:
    """Profile as many architectures as the sizes ask for, and the time allows."""
    rounds, runs = (job.some(6, 2), job.some(16, 2)), job.some(2, 1)
    # A CPU takes seconds to compute a module's outputs for a large batch.
    verify: Literal["sample", "none"] = "sample" if batch == 1 else "none"
    settings = Settings(half_width=0.02, min_rounds=rounds[0], max_rounds=rounds[1], runs=runs, verify=verify)
    test = job.some(TEST, 8)
    start = time.monotonic()
    measured, reached = 0, 0
    # The first ones tell the noise floor early.
    for samples in sorted({job.some(40, 8 + test), *(size + test for size in sizes)}):
        summary: Summary = profile_space(
            job.space,
            job.backend,
            path,
            samples=samples,
            settings=settings,
            batch=batch,
            with_operations=not job.dry,
            budget_seconds=max(1.0, job.left - OTHER_SECONDS),
        )
        measured, reached = measured + summary.progress.measured, summary.architectures
        if summary.progress.done < summary.progress.total:
            break
    seconds = time.monotonic() - start
    job.row(
        f"batch {batch}: throughput",
        f"{measured / seconds * 3600:,.0f} an hour, all included: {reached} architectures and "
        f"{summary.operations} operations in {seconds:.0f} s; floor {summary.noise_floor}",
        {
            "per_hour": measured / seconds * 3600,
            "architectures": reached,
            "operations": summary.operations,
            "seconds": seconds,
            "floor": summary.noise_floor.mape,
            "flags": dict(summary.progress.flags),
            "phases": dict(summary.progress.phases),
            "failures": [failure.reason for failure in summary.failures],
        },
    )


def compare_predictors(job: Job, path: Path, batch: int, sizes: tuple[int, ...]) -> None:
    usable = []
    for name in PREDICTORS:
        with job.part(f"predictor {name}"):
            plugins.load(plugins.PREDICTORS, name)
            usable.append(name)
    with Store(path) as opened:
        if not opened.count("architecture"):
            job.row(f"batch {batch}: MAPE", "no architecture is measured in the time", status="not run")
            return
        profile = opened.profile()
    if profile.context().costs is None and "lookup" in usable:
        usable.remove("lookup")
        job.row("predictor lookup", "its operator table is not measured", status="not run")
    enough = [size for size in sizes if size + job.some(TEST, 8) <= len(profile.y)]
    for size in [size for size in sizes if size not in enough]:
        job.row(
            f"batch {batch}: MAPE at {size}",
            f"{len(profile.y)} architectures are measured in the time",
            status="not run",
        )
    for size in enough or [len(profile.y) * 2 // 3]:
        what = f"batch {batch}: MAPE at {size}"
        if job.is_over(what):
            continue
        with job.part(what):
            comparison = compare(profile, usable, train_sizes=[size], seeds=job.some(3, 1))
            mape = {row.predictor: row.mean.mape for row in comparison.rows}
            found = ", ".join(f"{name} {mape[name]:.1%}" for name in (*usable, CONSTANT))
            job.row(what, found, {"mape": mape, "floor": comparison.noise_floor.mape, "test": comparison.test_size})

"""How well a latency on the GPU repeats in fresh processes: the noise floor, goal 0.5%."""

from __future__ import annotations

import zlib

import numpy as np

from benchmarks.gpu.job import Job, options
from latbench.measure.session import SessionResult
from latbench.measure.settings import Settings
from latbench.measure.workers import Workers
from latbench.measure.workers.request import SessionRequest
from latbench.records.noise_floor import noise_floor
from latbench.records.subjects import Subject, references
from latbench.space import SpaceSpec


def run(job: Job) -> None:
    with job.part("device"):
        job.open_backend()
        with Workers() as workers:
            configurations: list[tuple[int, dict[str, str]]] = [(1, {}), (1, {"graph": "yes"}), (job.batch, {})]
            for number, (batch, given) in enumerate(configurations):
                share = job.left / (len(configurations) - number)
                what = f"{'CUDA graph' if given else 'eager'}, batch {batch}"
                with job.part(what):
                    repeat(job, workers, what, batch, given, until=job.left - share)


def repeat(job: Job, workers: Workers, what: str, batch: int, given: dict[str, str], *, until: float) -> None:
    """Measure the same architectures in one fresh process after another until `until` seconds are left."""
    subjects = tuple(Subject("architecture", str(a)) for a in job.space.sample(job.some(13, 5), seed=7))
    settings = Settings(
        half_width=0.005,
        max_seconds=max(1.0, (job.left - until) / 4),
        min_rounds=job.some(12, 2),
        max_rounds=job.some(20, 2),
        runs=job.some(4, 1),
        verify="none",
    )
    results: list[SessionResult] = []
    while len(results) < 2 or (job.left > until and len(results) < job.some(16, 2)):
        seed = zlib.crc32(f"{what} {len(results)}".encode())
        request = SessionRequest(
            f"r{seed:08x}",
            job.backend,
            options(**given),
            settings,
            SpaceSpec.of(job.space),
            batch,
            seed,
            (*references(job.space), *subjects),
        )
        results.append(workers.run(request))
    ms = np.array([[m.value for m in result.measurements if m.kind == "architecture"] for result in results])
    anchors = np.array([result.measurements[0].reference or 1.0 for result in results])
    floor, raw = (noise_floor(pairs(values)) for values in (ms / anchors[:, None], ms))
    job.row(
        what,
        f"floor {floor}; without references {raw}; {len(results)} processes",
        {
            "floor": floor.mape,
            "robust_cv": floor.robust_cv,
            "rms_cv": floor.rms_cv,
            "floor_without_references": raw.mape,
            "goal": 0.005,
            "ms": ms.tolist(),
            "flags": sorted({flag for result in results for m in result.measurements for flag in m.flags}),
        },
    )


def pairs(values: np.ndarray) -> np.ndarray:
    """Return pairs of neighbouring processes' values of the same architecture, ``(pairs, 2)``."""
    even = len(values) // 2 * 2
    return np.stack([values[0:even:2].ravel(), values[1:even:2].ravel()], axis=1)

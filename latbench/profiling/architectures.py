"""Measure some architectures of a space together, without a store."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

from latbench.backend import CompileOptions
from latbench.errors import UsageError
from latbench.measure.energy.windows import EnergySettings
from latbench.measure.one_model.sessions import session_name, succeeded
from latbench.measure.settings import Settings
from latbench.measure.workers import Workers
from latbench.measure.workers.request import SessionRequest
from latbench.records.measurement import Conditions, Measurement
from latbench.records.subjects import Subject, references
from latbench.space import Architecture, SearchSpace, SpaceSpec


def measure_architectures(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    backend: str,
    *,
    options: CompileOptions | None = None,
    settings: Settings | None = None,
    batch: int = 1,
    energy: EnergySettings | None = None,
    like: Conditions | None = None,
    timeout: float = 120.0,
) -> list[Measurement]:
    """Measure architectures together with their space's references, in a process of its own.

    Args:
        space: what they belong to.
        architectures: what to measure; the result has their order.
        backend: plug-in name or ``module:Class``.
        options: how they are compiled.
        settings: how they are measured.
        batch: inputs of one inference.
        energy: measures energy, in mJ, and without the references.
        like: what the result must be comparable with; None takes any.
        timeout: seconds that one may take to compile.

    Raises:
        UsageError: an unknown backend, options that it refuses, a device whose energy the meter cannot count, or
            measurements that cannot be compared with those that they should be like.
        MeasurementError: one of them cannot be compiled or run.
    """
    name, settings = session_name(), settings or Settings(verify="all")
    subjects = [Subject("architecture", text) for text in dict.fromkeys(map(str, architectures))]
    if energy is not None:
        settings = replace(settings, max_seconds=energy.max_seconds(len(subjects)))
    request = SessionRequest(
        session=name,
        backend=backend,
        options=options or CompileOptions(),
        settings=settings,
        space=SpaceSpec.of(space),
        batch=batch,
        seed=zlib.crc32(name.encode()),
        subjects=(*(references(space) if energy is None else ()), *subjects),
        energy=energy,
    )
    with Workers() as workers:
        result = succeeded(workers.run(request, timeout=timeout))
    if like is not None and result.conditions is not None and (fields := like.differences(result.conditions)):
        raise UsageError(f"what is measured here cannot be compared: {', '.join(fields)} differ: profile again here")
    by_subject = {m.subject: m for m in result.measurements if m.kind == "architecture"}
    return [by_subject[str(architecture)] for architecture in architectures]

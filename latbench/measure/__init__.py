"""Measure models. The protocol is `session`, the statistics are `estimate`, the worker processes are `workers`."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Sequence

from latbench import plugins
from latbench.backend import Backend, CompileOptions
from latbench.errors import MeasurementError
from latbench.measure.request import SessionRequest, Subject, references
from latbench.measure.session import SessionResult, Settings, Task, run_session
from latbench.measure.workers import Workers
from latbench.measurement import Measurement
from latbench.model import Model
from latbench.space import Architecture, SearchSpace, SpaceSpec


def measure_model(
    model: Model,
    backend: str | Backend,
    *,
    options: CompileOptions | None = None,
    settings: Settings | None = None,
    seed: int = 0,
) -> Measurement:
    """Measure one model in this process.

    Args:
        model: what to measure.
        backend: plug-in name, ``module:Class``, or a backend.
        options: how it is compiled.
        settings: how it is measured.
        seed: recorded.

    Raises:
        UsageError: an unknown backend, options that it refuses.
        MeasurementError: the model cannot be compiled or run.
    """
    target: Backend = plugins.configure(plugins.BACKENDS, backend, {}) if isinstance(backend, str) else backend
    task = Task("model", model.name, lambda: model)
    result = run_session(
        target, [task], options or CompileOptions(), settings or Settings(verify="all"), seed=seed, session=_name()
    )
    return _only_successes(result)[0]


def measure_architectures(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    backend: str,
    *,
    options: CompileOptions | None = None,
    settings: Settings | None = None,
    batch: int = 1,
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
        timeout: seconds that one may take to compile.

    Raises:
        UsageError: an unknown backend, options that it refuses.
        MeasurementError: one of them cannot be compiled or run.
    """
    name = _name()
    request = SessionRequest(
        session=name,
        backend=backend,
        options=options or CompileOptions(),
        settings=settings or Settings(verify="all"),
        space=SpaceSpec.of(space),
        batch=batch,
        seed=zlib.crc32(name.encode()),
        subjects=(
            *references(space),
            *(Subject("architecture", text) for text in dict.fromkeys(map(str, architectures))),
        ),
    )
    with Workers() as workers:
        measured = _only_successes(workers.run(request, timeout=timeout))
    by_subject = {m.subject: m for m in measured if m.kind == "architecture"}
    return [by_subject[str(architecture)] for architecture in architectures]


def _only_successes(result: SessionResult) -> tuple[Measurement, ...]:
    if result.failures:
        failure = result.failures[0]
        raise MeasurementError(f"cannot measure {failure.subject}: {failure.reason}")
    return result.measurements


def _name() -> str:
    return uuid.uuid4().hex[:12]

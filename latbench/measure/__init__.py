"""Measure models. The protocol is `session`, the statistics are `estimate`, the worker processes are `workers`."""

from __future__ import annotations

import dataclasses
import uuid
import zlib
from collections.abc import Sequence

from latbench import plugins
from latbench.backend import Backend, CompileOptions
from latbench.errors import LatbenchError, MeasurementError
from latbench.measure.inspection import inspect_model
from latbench.measure.record import ModelRecord, Refusal
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
    result = _measured(model, target, options or CompileOptions(), settings or Settings(verify="all"), seed)
    return result.measurements[0]


def measure_on_backends(
    model: Model,
    backends: Sequence[str],
    *,
    options: CompileOptions | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    with_operators: bool = False,
) -> list[ModelRecord | Refusal]:
    """Measure one model on several backends in this process, one after the other, and all that they tell of it.

    Args:
        model: what to measure.
        backends: plug-in names or ``module:Class``; the result has their order.
        options: how it is compiled.
        settings: how it is measured.
        seed: recorded.
        with_operators: whether to profile the operators, where a backend can.

    A backend that is missing, refuses the model or fails on it does not keep the others from it.
    """
    options, settings = options or CompileOptions(), settings or Settings(verify="all")
    shapes = {name: f"{'x'.join(map(str, x.shape))}:{x.dtype}" for name, x in model.inputs.items()}
    results: list[ModelRecord | Refusal] = []
    for name in backends:
        try:
            target: Backend = plugins.configure(plugins.BACKENDS, name, {})
            result = _measured(model, target, options, settings, seed)
            assert result.conditions is not None
            conditions = dataclasses.replace(result.conditions, backend=name)
            inspection = inspect_model(model, target, options, with_operators=with_operators)
            results.append(ModelRecord(shapes, conditions, result.measurements[0], inspection))
        except LatbenchError as error:
            results.append(Refusal(name, error))
    return results


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
        measured = _succeeded(workers.run(request, timeout=timeout)).measurements
    by_subject = {m.subject: m for m in measured if m.kind == "architecture"}
    return [by_subject[str(architecture)] for architecture in architectures]


def _measured(model: Model, backend: Backend, options: CompileOptions, settings: Settings, seed: int) -> SessionResult:
    task = Task("model", model.name, lambda: model)
    return _succeeded(run_session(backend, [task], options, settings, seed=seed, session=_name()))


def _succeeded(result: SessionResult) -> SessionResult:
    if result.failures:
        failure = result.failures[0]
        raise MeasurementError(f"cannot measure {failure.subject}: {failure.reason}")
    return result


def _name() -> str:
    return uuid.uuid4().hex[:12]

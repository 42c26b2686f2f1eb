"""Measure some architectures of a space together, without a store."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from latbench.backend import Backend, CompileOptions
from latbench.errors import UsageError
from latbench.measure.one_model.sessions import session_name, succeeded
from latbench.measure.quantities.latency import LATENCY
from latbench.measure.quantity import Quantity
from latbench.measure.settings import Settings
from latbench.measure.workers.backend_name import backend_name
from latbench.measure.workers.local import LocalExecutor
from latbench.measure.workers.places import PlacesRequest
from latbench.measure.workers.request import SessionRequest
from latbench.records.measurement import Conditions, Measurement
from latbench.records.subjects import Subject, references
from latbench.space import Architecture, SearchSpace, SpaceSpec


def measure_architectures(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    backend: str | Backend,
    *,
    options: CompileOptions | None = None,
    settings: Settings | None = None,
    batch: int = 1,
    quantity: Quantity = LATENCY,
    like: Conditions | None = None,
    timeout: float = 120.0,
) -> list[Measurement]:
    """Measure architectures together, with their space's references where the quantity has any, in other processes.

    Without architectures, the references are measured alone, to check that anything can be.

    Args:
        space: what they belong to.
        architectures: what to measure; the result has their order.
        backend: plug-in name, ``module:Class``, or a backend that its class gives without arguments.
        options: how they are compiled.
        settings: how they are measured.
        batch: inputs of one inference.
        quantity: what is measured of them (`latbench.measure.quantities`).
        like: what the result must be comparable with; None takes any.
        timeout: seconds that one may take to compile.

    Raises:
        UsageError: the backend is unknown, it refuses the options, the quantity cannot be measured, or the
            measurements cannot be compared with `like`.
        MeasurementError: an architecture cannot be compiled or run.
    """
    options, settings = options or CompileOptions(), settings or Settings(verify="all")
    plugin = backend_name(backend)
    subjects = [Subject("architecture", text) for text in dict.fromkeys(map(str, architectures))]
    measured: dict[str, Measurement] = {}
    with LocalExecutor(timeout) as executor:
        place, *_ = executor.places(PlacesRequest(plugin, options, settings, (quantity,)))
        if not subjects and not quantity.with_references:
            quantity, like = LATENCY, None
        riding = references(space) if quantity.with_references else ()
        size = quantity.session_size(place.device)
        for start in range(0, max(1, len(subjects)), size):
            name = session_name()
            request = SessionRequest(
                session=name,
                backend=plugin,
                options=options,
                settings=settings,
                space=SpaceSpec.of(space),
                batch=batch,
                seed=zlib.crc32(name.encode()),
                subjects=(*riding, *subjects[start : start + size]),
                quantity=quantity,
            )
            result = succeeded(executor.start(request, place).result())
            if like is not None and result.conditions is not None:
                _check_comparable(like, result.conditions)
            measured |= {m.subject: m for m in result.measurements if m.kind == "architecture"}
    return [measured[str(architecture)] for architecture in architectures]


def _check_comparable(like: Conditions, conditions: Conditions) -> None:
    if fields := like.differences(conditions):
        raise UsageError(f"measurements here cannot be compared: {', '.join(fields)} differ: profile again here")

"""Measure one model, on one backend or several.

No reference is measured beside the model to tell the machine's drift from it, and drift may be slower than a session
is long. So each backend gets several short sessions, in turns with the others, each of which compiles afresh. The
interval comes from how far they disagree, which includes memory layout and the drift between them.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from latbench import plugins
from latbench.backend import Backend, CompileOptions
from latbench.errors import LatbenchError, MeasurementError, UsageError
from latbench.executor import Notify
from latbench.measure.clocks import WALL
from latbench.measure.estimate import QUANTILE
from latbench.measure.gates import FLAGS
from latbench.measure.one_model.inspection import inspect_model
from latbench.measure.one_model.record import ModelRecord, Refusal
from latbench.measure.quantities.latency import LATENCY
from latbench.measure.session import SessionResult, run_session
from latbench.measure.settings import Settings
from latbench.measure.workloads import UNEVEN, Workload
from latbench.model import Model
from latbench.model.samples import Samples
from latbench.model.source import as_model
from latbench.progress import told
from latbench.records.measurement import Conditions, Measurement

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger(__name__)

SESSIONS, SLOW_SESSIONS = 5, 3
_SLOW_MS = 4e3
"""A model that takes longer gets `SLOW_SESSIONS`: two calls in each."""

_HALF_WIDTHS = {2: 9.57, 3: 2.74, 4: 1.79, 5: 1.46}
"""Half-width of the 95% interval of the lower quartile of so many normal numbers, in standard deviations; simulated."""

DEFAULT = Settings(verify="all", min_rounds=24, max_rounds=24, max_seconds=2.0)
"""The settings of each of the sessions: 24 rounds, or fewer for a slow model."""


def measure_model(
    model: Model | nn.Module | str | Path | Callable[[], Any],
    given: Samples | str | Backend | None = None,
    /,
    *,
    inputs: Samples | None = None,
    backend: str | Backend | None = None,
    options: CompileOptions | None = None,
    settings: Settings = DEFAULT,
    seed: int = 0,
    with_operators: bool = False,
) -> ModelRecord:
    """Measure one model in this process.

    ``measure_model(net, torch.randn(1, 3, 224, 224), backend="onnxruntime").value`` is a latency in ms, and
    ``measure_model("net.onnx", "onnxruntime")`` is enough where the inputs are known. A notebook shows the record as a
    table, and its progress while it is measured; elsewhere, the log ``latbench`` has it.

    Args:
        model: a torch module, of which a copy is measured in eval mode; a path to an ``.onnx`` or ``.pt2`` file;
            ``module:factory`` or the factory itself; or a `Model`.
        given: `inputs` or `backend`, whichever it is.
        inputs: sample inputs, batch first: a tensor or an array, several in a tuple in the order of ``forward``, or a
            dict by name. A module needs them; a file or a factory may bring its own, and a `Model` does.
        backend: plug-in name, ``module:Class``, or a backend; ONNX Runtime unless given.
        options: how it is compiled.
        settings: how each of the sessions measures.
        seed: recorded.
        with_operators: whether to profile the operators, where the backend can.

    Raises:
        UsageError: a model that cannot be opened or does not run on its inputs, an unknown backend, options that it
            refuses, or inputs or a backend given twice.
        MeasurementError: the model cannot be compiled or run.
    """
    is_backend = isinstance(given, str) or all(hasattr(given, method) for method in plugins.BACKENDS.methods)
    if given is not None and (backend if is_backend else inputs) is not None:
        word = "backend" if is_backend else "inputs"
        raise UsageError(f"{word} is given twice, after the model and as {word}=: leave one out")
    found = _backend(cast("str | Backend", given) if is_backend else backend or "onnxruntime")
    opened = as_model(model, inputs if is_backend or given is None else cast("Samples", given))
    sessions = itertools.count(1)
    with told(_log) as tell:

        def notify(phase: str, index: int) -> None:
            if phase == "timing":
                tell(f"measuring {opened.name} on {found.name}, session {next(sessions)}")

        (result,) = measure_on_backends(
            *(opened, [found]),
            options=options,
            settings=settings,
            seed=seed,
            with_operators=with_operators,
            notify=notify,
        )
    if isinstance(result, Refusal):
        raise result.error
    return result


def _backend(backend: str | Backend) -> Backend:
    if isinstance(backend, str):
        built: Backend = plugins.configure(plugins.BACKENDS, backend, {})
        return built
    if isinstance(backend, type):
        raise UsageError(f"{backend.__name__} is a class: give an instance, {backend.__name__}()")
    if not all(hasattr(backend, method) for method in plugins.BACKENDS.methods):
        raise UsageError(
            f"backend is of type {type(backend).__name__}: give a backend or its name, and samples as inputs="
        )
    return backend


def measure_on_backends(
    model: Model,
    backends: Sequence[str | Backend],
    *,
    options: CompileOptions | None = None,
    settings: Settings = DEFAULT,
    seed: int = 0,
    with_operators: bool = False,
    notify: Notify = lambda phase, index: None,
) -> list[ModelRecord | Refusal]:
    """Measure one model on several backends in this process, their sessions in turns, and inspect it on each.

    A backend that is missing, refuses the model or fails on it does not stop the others.

    Args:
        model: what to measure.
        backends: plug-in names, ``module:Class``, or backends; the result has their order, each name once.
        options: how it is compiled.
        settings: how each of the sessions measures.
        seed: recorded.
        with_operators: whether to profile the operators, where a backend can.
        notify: called with the phases of each session.
    """
    options = options or CompileOptions()
    results: dict[str, ModelRecord | Refusal] = {}
    engines: dict[str, Backend] = {}
    given = {each if isinstance(each, str) else each.name: each for each in backends}
    for name, each in given.items():
        try:
            engines[name] = _backend(each)
        except LatbenchError as error:
            results[name] = Refusal(name, error)
    inputs = model.described()
    for name, result in _in_turns(model, engines, options, settings, seed=seed, notify=notify).items():
        if isinstance(result, Refusal):
            results[name] = result
            continue
        inspection = inspect_model(
            *(model, engines[name], options),
            with_operators=with_operators,
            on_wall=result[0].clock == WALL,
            run_ms=result[1].wall or 0.0,
            progress=lambda: notify("running", -1),
        )
        # The record says what loads the backend again: for a class that is not installed, that is not its name.
        results[name] = ModelRecord(
            inputs, dataclasses.replace(result[0], backend=name), result[1], inspection, estimate_of(result[1])
        )
    return [results[name] for name in given]


def succeeded(result: SessionResult) -> SessionResult:
    """Return a session's result.

    Raises:
        MeasurementError: one of its models could not be measured.
    """
    if result.failures:
        failure = result.failures[0]
        raise MeasurementError(f"cannot measure {failure.subject}: {failure.reason}")
    return result


def session_name() -> str:
    """Return a name that no other session has."""
    return uuid.uuid4().hex[:12]


def _in_turns(
    model: Model,
    backends: Mapping[str, Backend],
    options: CompileOptions,
    settings: Settings,
    *,
    seed: int,
    notify: Notify = lambda phase, index: None,
) -> dict[str, tuple[Conditions, Measurement] | Refusal]:
    """Run the sessions of each backend."""
    series = {name: _Sessions(model, backend) for name, backend in backends.items()}
    session = session_name()
    for turn in range(2 * SESSIONS):
        for each in series.values():
            if not each.is_done:
                # What the first session compared need not be compared again.
                asked = settings if turn == 0 else dataclasses.replace(settings, verify="none")
                each.run(options, asked, seed=seed + turn, session=session, notify=notify)
    return {name: each.result(name, settings.half_width) for name, each in series.items()}


class _Sessions:
    """The sessions of one model on one backend.

    Attributes:
        conditions: of the measurements; None before the first session.
        measured: what each session measured.
        error: why there are no more sessions.
    """

    def __init__(self, model: Model, backend: Backend) -> None:
        self._workload, self._backend = Workload("model", model.name, lambda: model), backend
        self.conditions: Conditions | None = None
        self.measured: list[Measurement] = []
        self.error: LatbenchError | None = None

    @property
    def is_done(self) -> bool:
        """Whether there are enough."""
        slow = any((m.wall or m.value) > _SLOW_MS for m in self.measured)
        return self.error is not None or len(self.measured) >= (SLOW_SESSIONS if slow else SESSIONS)

    def result(self, name: str, half_width: float) -> tuple[Conditions, Measurement] | Refusal:
        """Return what they found, or why there is nothing, for the backend of this name."""
        if self.error is not None:
            return Refusal(name, self.error)
        assert self.conditions is not None
        return self.conditions, combine(self.measured, half_width)

    def run(self, options: CompileOptions, settings: Settings, *, seed: int, session: str, notify: Notify) -> None:
        """Run one more session; one that finds a part of the work outside the clock makes those before it void."""
        try:
            result = succeeded(
                run_session(
                    *(self._backend, [self._workload], LATENCY, options, settings),
                    seed=seed,
                    session=session,
                    notify=notify,
                )
            )
        except LatbenchError as error:
            self.error = error
            return
        assert result.conditions is not None
        if self.conditions is not None and self.conditions.clock != result.conditions.clock:
            self.measured.clear()
        self.conditions = result.conditions
        self.measured.append(result.measurements[0])
        self._workload = dataclasses.replace(self._workload, on_wall=self.conditions.clock == WALL)


def combine(sessions: Sequence[Measurement], half_width: float) -> Measurement:
    """Return one measurement from those of some sessions.

    Its value is their lower quartile, as a session's is that of its visits: disturbances only ever slow a machine.

    Args:
        sessions: two to five of one model on one backend.
        half_width: relative half-width beyond which the result is flagged ``unstable``.
    """
    logs = np.log([m.value for m in sessions])
    value = float(np.exp(np.quantile(logs, QUANTILE)))
    half = _HALF_WIDTHS[len(sessions)] * float(logs.std(ddof=1))
    walls = [m.wall for m in sessions if m.wall is not None]
    return dataclasses.replace(
        sessions[0],
        value=value,
        low=value * float(np.exp(-half)),
        high=value * float(np.exp(half)),
        blocks=tuple(block for m in sessions for block in m.blocks),
        wall=float(np.median(walls)) if walls else None,
        flags=(*(("unstable",) if half > half_width else ()), *_backend_flags(sessions)),
        compile_ms=float(np.median([m.compile_ms for m in sessions])),
        timing_ms=sum(m.timing_ms for m in sessions),
        environment={**sessions[0].environment, "sessions": len(sessions)},
    )


def estimate_of(measurement: Measurement) -> str:
    """Return in words how `combine` computes a value from runs."""
    told = measurement.environment
    runs = "run" if told.get("runs") == 1 else f"fastest of {told.get('runs')} runs"
    visit = "mean of all runs" if UNEVEN in measurement.flags else f"lower quartile of its visits, the {runs} of each"
    return f"lower quartile of {told.get('sessions')} sessions, of each the {visit}"


def _backend_flags(sessions: Sequence[Measurement]) -> list[str]:
    """Return the flags that the backend raised; with a single model, a session cannot tell noise from drift."""
    return list(dict.fromkeys(flag for m in sessions for flag in m.flags if flag not in FLAGS))

"""Measure a model in a worker process: a backend that crashes it is recorded, and the others are still measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from latbench.backend import CompileOptions
from latbench.executor import SessionDiedError
from latbench.measure.one_model.record import Refusal
from latbench.measure.one_model.request import SourceRequest, SourceResult
from latbench.measure.one_model.sessions import DEFAULT
from latbench.measure.settings import Settings
from latbench.measure.workers import Workers


def measure_source(
    source: str,
    backends: Sequence[str],
    *,
    inputs: Sequence[str] = (),
    batch: int | None = None,
    options: CompileOptions | None = None,
    settings: Settings = DEFAULT,
    seed: int = 0,
    with_operators: bool = False,
    timeout: float = 120.0,
) -> SourceResult:
    """Measure one model on several backends, in a process of its own, their sessions in turns.

    A backend that crashes or hangs that process becomes a `Refusal`; then each of the others is measured alone.

    Args:
        source: an ONNX file, a ``.pt2`` file or ``module:factory`` (`latbench.model.source.open_model`).
        backends: distinct plug-in names or ``module:Class``; the results have their order.
        inputs: sample inputs as ``name:1x3x224x224:float32``.
        batch: the first dimension of every input; None leaves the inputs as they are.
        options: how it is compiled.
        settings: how each of the sessions measures.
        seed: recorded.
        with_operators: whether to profile the operators, where a backend can.
        timeout: seconds that opening and each compilation may take.

    Raises:
        UsageError: the model cannot be opened.
    """
    distinct = tuple(dict.fromkeys(backends))
    options = options or CompileOptions()
    request = SourceRequest(source, tuple(inputs), batch, distinct, options, settings, seed, with_operators)
    with Workers() as workers:
        try:
            return workers.run(request, timeout=timeout)
        except SessionDiedError as death:
            if len(distinct) == 1:
                return SourceResult(source, (Refusal(distinct[0], death),))
            note = f"{death}; each backend was measured alone, not in turns with the others"
        alone = [_alone(workers, replace(request, backends=(backend,)), timeout) for backend in distinct]
    notes = dict.fromkeys(text for result in alone for text in result.notes)
    return SourceResult(alone[0].name, tuple(result.results[0] for result in alone), (*notes, note))


def _alone(workers: Workers, request: SourceRequest, timeout: float) -> SourceResult:
    try:
        return workers.run(request, timeout=timeout)
    except SessionDiedError as death:
        return SourceResult(request.source, (Refusal(request.backends[0], death),))

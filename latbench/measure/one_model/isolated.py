"""Measure a model in a worker process: a backend that crashes it is recorded, and the others are still measured."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from latbench.backend import CompileOptions
from latbench.errors import LatbenchError
from latbench.executor import SessionDiedError
from latbench.measure.one_model.record import ModelRecord, Refusal
from latbench.measure.one_model.request import SourceRequest, SourceResult
from latbench.measure.one_model.results import Results
from latbench.measure.one_model.sessions import DEFAULT
from latbench.measure.settings import Settings
from latbench.measure.workers import FILES, SPACES, Workers
from latbench.records.figures import figures

_log = logging.getLogger(__name__)


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
    request = SourceRequest(
        source, tuple(inputs), batch, distinct, options or CompileOptions(), settings, seed, with_operators
    )
    with _workers([source]) as workers:
        return _measured(workers, request, timeout)


def measure_sources(
    sources: Sequence[str],
    backends: Sequence[str],
    *,
    inputs: Sequence[str] = (),
    batches: Sequence[int | None] = (None,),
    options: Sequence[CompileOptions] = (CompileOptions(),),
    settings: Settings = DEFAULT,
    seed: int = 0,
    with_operators: bool = False,
    timeout: float = 120.0,
    on_progress: Callable[[str], None] = lambda doing: None,
    on_result: Callable[[Results], None] = lambda so_far: None,
) -> Results:
    """Measure every source in every batch and with all options; the backends of one take turns.

    A source that cannot be opened becomes a `Refusal` of every backend, and the others are measured.

    Args:
        sources: see `measure_source`. Files of one name in several folders are filed under their paths.
        backends: see there.
        inputs: for every source.
        batches: the first dimension of every input; None leaves the inputs as they are.
        options: how to compile, such as with different numbers of threads.
        settings: how each of the sessions measures.
        seed: recorded.
        with_operators: whether to profile the operators, where a backend can.
        timeout: seconds that opening and each compilation may take.
        on_progress: called before each one with what is measured, as a text.
        on_result: called after each one with all there is so far: what a run that is interrupted keeps.
    """
    distinct = tuple(dict.fromkeys(backends))
    asked = list(itertools.product(dict.fromkeys(sources), dict.fromkeys(batches), options))
    found: list[SourceResult] = []
    with _workers(sources) as workers:
        for number, (source, batch, each) in enumerate(asked, start=1):
            on_progress(_doing(source, batch, each, f" ({number} of {len(asked)})" if len(asked) > 1 else ""))
            request = SourceRequest(source, tuple(inputs), batch, distinct, each, settings, seed, with_operators)
            try:
                found.append(_measured(workers, request, timeout))
            except LatbenchError as error:
                found.append(SourceResult(_name(source), tuple(Refusal(backend, error) for backend in distinct)))
            _log.info("%s: %s", source, "; ".join(map(_told, found[-1].results)))
            results = _told_apart(asked, found)
            on_result(results)
    return results


def _told_apart(asked: Sequence[tuple[str, int | None, CompileOptions]], found: Sequence[SourceResult]) -> Results:
    """Return what has been found so far of what was asked for, each with what tells it from the others."""
    if len(asked) == 1:
        return Results(found[0].results, found[0].notes)
    results: list[ModelRecord | Refusal] = []
    notes: dict[str, None] = {}
    for (source, batch, options), result in zip(asked, found, strict=False):
        namesakes = {other for (other, *_), told in zip(asked, found, strict=False) if told.name == result.name}
        name = result.name if len(namesakes) == 1 else source
        for each in result.results:
            if isinstance(each, Refusal):
                results.append(replace(each, model=name, batch=batch, threads=options.threads))
            else:
                results.append(replace(each, measurement=replace(each.measurement, subject=name)))
        notes |= dict.fromkeys(f"{name}: {note}" for note in result.notes)
    return Results(tuple(results), tuple(notes))


def _workers(sources: Sequence[str]) -> Workers:
    """Return workers that have imported what opens these sources."""
    return Workers(FILES if all(source.endswith(".onnx") for source in sources) else SPACES)


def _measured(workers: Workers, request: SourceRequest, timeout: float) -> SourceResult:
    try:
        return workers.run(request, timeout=timeout)
    except SessionDiedError as death:
        if len(request.backends) == 1:
            return SourceResult(_name(request.source), (Refusal(request.backends[0], death),))
        note = f"{death}; each backend was measured alone, not in turns with the others"
    alone = [_alone(workers, replace(request, backends=(backend,)), timeout) for backend in request.backends]
    notes = dict.fromkeys(text for result in alone for text in result.notes)
    return SourceResult(alone[0].name, tuple(result.results[0] for result in alone), (*notes, note))


def _alone(workers: Workers, request: SourceRequest, timeout: float) -> SourceResult:
    try:
        return workers.run(request, timeout=timeout)
    except SessionDiedError as death:
        return SourceResult(_name(request.source), (Refusal(request.backends[0], death),))


def _name(source: str) -> str:
    """Return what a model is called that could not be opened: as `latbench.model.source.open_model` calls it."""
    return Path(source).name if source.endswith((".onnx", ".pt2")) else source


def _doing(source: str, batch: int | None, options: CompileOptions, of: str) -> str:
    return f"measuring {source}{f', batch {batch}' if batch else ''}, threads {options.threads}{of}"


def _told(result: ModelRecord | Refusal) -> str:
    if isinstance(result, Refusal):
        return f"{result.backend} refuses it"
    return f"{figures(result.value)} ms on {result.conditions.backend}"

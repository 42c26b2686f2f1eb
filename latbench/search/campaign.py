"""Searches for one or more targets, from the problem to the final table: search, train, measure, compare."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from latbench import plugins
from latbench.backend import CompileOptions
from latbench.errors import PluginError, UsageError
from latbench.measure.quantities import quantity_like
from latbench.measure.settings import Settings
from latbench.profiling.architectures import measure_architectures
from latbench.records.measurement import Measurement
from latbench.search.objectives.objective import Objective
from latbench.search.tasks.classification import as_task
from latbench.search.tasks.training import TrainingSettings, train_architecture
from latbench.search.verification import Found, Verification, verify
from latbench.space import Architecture
from latbench.strategy import Candidate, Problem, Strategy, live

if TYPE_CHECKING:
    from latbench.prediction.trained import TrainedPredictor
    from latbench.search.tasks.images import Images
    from latbench.space import SearchSpace
    from latbench.task import Task

NO_TARGET = "none"

_DRAWN = 1000
"""Architectures whose predictions tell whether a target is within reach."""

_FAR = 2
"""A target so many times below the fastest of them, or above the slowest, is a mistake: no search comes near it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where a campaign stands, for a progress display: a step of a search or an epoch of training.

    Args:
        search: the target as it was asked for.
        doing: ``"searching"`` or ``"training"``.
        done: steps finished.
        total: steps in all.
    """

    search: str
    doing: str
    done: int
    total: int


def search_and_verify(
    predictor: TrainedPredictor,
    task: Task | Images,
    *,
    strategy: str | Strategy,
    targets: Sequence[str],
    folder: str | Path,
    options: Mapping[str, Any] | None = None,
    training: TrainingSettings | None = None,
    device: str = "cpu",
    seed: int = 0,
    measure: bool = True,
    on_step: Callable[[Step], None] = lambda step: None,
    on_note: Callable[[str], None] = warnings.warn,
) -> tuple[list[Verification], dict[str, Candidate]]:
    """Search once for each target, train the best that was found, and measure all of it on the predictor's backend.

    The folder keeps the strategy's state, the genotype and the history of each search, and ``final.json``; an
    interrupted campaign continues from it.

    Args:
        predictor: its conditions say on which backend the result is measured; some strategies need a differentiable
            one.
        task: what the networks learn; images are to be classified.
        strategy: how to search: a plug-in's name, ``module:Class``, or an object.
        targets: ``"none"`` searches without steering, ``"1.2"`` asks for so much in the predictor's unit, ``"75%"``
            for that share of what the search before it, without a target, is predicted to take.
        folder: where everything is written.
        options: the keywords of a strategy that is named.
        training: hyper-parameters of each training.
        device: where networks are trained.
        seed: of the searches.
        measure: whether what was found is measured; a predictor of an imported table has no backend that could.
        on_step: called before the first step and after each one.
        on_note: called with what the user should know: a target that is out of reach, or was missed.

    Returns:
        One row a target, and the best candidates by target.

    Raises:
        UsageError: a target has another form or is far out of reach, torch lacks the device, the strategy does not take
            a keyword, or the task or the strategy does not fit the space.
        PluginError: no such strategy, the predictor's backend is not available here, or this is not the device that it
            predicts for.
        NotDifferentiableError: the strategy needs a differentiable predictor, and this one is not.
        MeasurementError: what was found cannot be measured.
    """
    training, folder, task = training or TrainingSettings(), Path(folder), as_task(task)
    # A mistake must not come to light after hours.
    parsed = _parsed(targets, predictor.unit)
    _check_device(device)
    searcher = _strategy(strategy, options or {})
    for number, is_share in parsed.values():
        if number is not None and not is_share:
            _check_reach(predictor, number, on_note)
    if measure:
        _check_measurable(predictor)
    best: dict[str, Candidate] = {}
    found = []
    for target, (number, is_share) in parsed.items():
        asked = number
        if number is not None and is_share:
            asked = number * float(predictor.predict([best[NO_TARGET].architecture])[0])
            _note_reach(predictor, asked, on_note)
        kept = folder / _slug(target)
        problem = Problem(predictor.space, task, (Objective(predictor, asked),), device, seed)
        best[target] = _search(searcher, problem, target=target, folder=kept, on_step=on_step)
        for missed in problem.missed(best[target].architecture):
            on_note(f"the search for target {target} found nothing that meets it: {missed} is predicted")
        accuracy = _accuracy(
            predictor.space,
            best[target].architecture,
            task,
            settings=training,
            folder=kept,
            device=device,
            on_epoch=partial(_trained, on_step, target, training.epochs),
        )
        found.append(Found(_title(target), best[target].architecture, accuracy, asked))
    rows = verify(found, predictor, partial(_measure, predictor) if measure else None)
    _write(folder / "final.json", [dataclasses.asdict(row) for row in rows])
    return rows, best


def _strategy(strategy: str | Strategy, options: Mapping[str, Any]) -> Strategy:
    if isinstance(strategy, str):
        configured: Strategy = plugins.configure(plugins.STRATEGIES, strategy, options)
        return configured
    if options:
        raise UsageError(f"the strategy is an object with options of its own: leave out {', '.join(options)}")
    return strategy


def _check_reach(predictor: TrainedPredictor, asked: float, on_note: Callable[[str], None]) -> None:
    """Refuse a target far from anything that is predicted, before hours are spent, and note one that is just outside.

    Raises:
        UsageError: it is less than half of what the fastest of many random architectures is predicted to take, or more
            than twice what the slowest is.
    """
    fastest, slowest, far, said = _reach(predictor, asked)
    if asked < fastest / _FAR or asked > slowest * _FAR:
        share = f"; for a share of what is found without a target, write {asked:g}%" if 1 < asked <= 100 else ""
        raise UsageError(f"{said}{share}; ask for {fastest:.4g} to {slowest:.4g} {predictor.unit}")
    if far:
        on_note(said)


def _note_reach(predictor: TrainedPredictor, asked: float, on_note: Callable[[str], None]) -> None:
    """Note that a share of what was found lies outside of what is predicted for random architectures."""
    *_, far, said = _reach(predictor, asked)
    if far:
        on_note(said)


def _reach(predictor: TrainedPredictor, asked: float) -> tuple[float, float, bool, str]:
    """Return the least and the most that random live architectures are predicted to take, and what to say of a target.

    The third is whether the target lies outside of them.
    """
    drawn = predictor.space.sample(_DRAWN, seed=0)
    alive = live(predictor.space, drawn)
    predicted = predictor.predict([each for each, lives in zip(drawn, alive, strict=True) if lives])
    fastest, slowest, unit = float(predicted.min()), float(predicted.max()), predictor.unit
    why = "too little for any of them" if asked < fastest else "more than any of them takes, so it steers nothing"
    said = (
        f"the target {asked:.4g} {unit} is {why}: {len(predicted):,} random architectures are predicted to take "
        f"{fastest:.4g} to {slowest:.4g} {unit}"
    )
    return fastest, slowest, not fastest <= asked <= slowest, said


def _search(
    strategy: Strategy, problem: Problem, *, target: str, folder: Path, on_step: Callable[[Step], None]
) -> Candidate:
    """Search for one target, and write down the best candidate and how the search came to it."""
    last = Step(target, "searching", 0, 1)

    def searched(done: int, total: int) -> None:
        nonlocal last
        last = Step(target, "searching", done, total)
        on_step(last)

    on_step(last)
    candidates = strategy.search(problem, folder=folder, on_step=searched)
    if not candidates:
        raise UsageError(f"strategy {strategy.name!r} found no candidate for target {target}: use another strategy")
    on_step(dataclasses.replace(last, done=last.total))  # also where all of it had been done before
    live = problem.alive([candidate.architecture for candidate in candidates])
    if not live.any():
        raise UsageError(
            f"strategy {strategy.name!r} found only networks without a path from input to output for target {target}, "
            f"such as {candidates[0].architecture}: raise the target, or use another strategy"
        )
    best = candidates[int(live.argmax())]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "genotype.txt").write_text(f"{best.architecture}\n")
    _write(folder / "history.json", [dataclasses.asdict(record) for record in best.history])
    return best


def _accuracy(
    space: SearchSpace[Any],
    architecture: Architecture,
    task: Task,
    *,
    settings: TrainingSettings,
    folder: Path,
    device: str,
    on_epoch: Callable[[int], None],
) -> float:
    """Train what a search found, unless that has been done, and return its score."""
    path = folder / "trained.json"
    trained = {"architecture": str(architecture), "task": task.name, "settings": dataclasses.asdict(settings)}
    if path.exists():
        before = json.loads(path.read_text())
        if {name: before.get(name) for name in trained} == trained:
            on_epoch(settings.epochs)
            return float(before["accuracy"])
    on_epoch(0)
    accuracy = train_architecture(
        space, architecture, task, settings=settings, device=device, progress=lambda epoch, loss: on_epoch(epoch + 1)
    )
    _write(path, {**trained, "accuracy": accuracy})
    return accuracy


def _trained(on_step: Callable[[Step], None], target: str, epochs: int, done: int) -> None:
    on_step(Step(target, "training", done, epochs))


def _measure(predictor: TrainedPredictor, architectures: Sequence[Architecture]) -> Sequence[Measurement]:
    """Measure under the predictor's conditions, with the drift since its profile divided out.

    Raises:
        UsageError: the device or a version is not the predictor's.
    """
    conditions = predictor.conditions
    measured = measure_architectures(
        predictor.space,
        architectures,
        conditions.backend,
        options=_options(predictor),
        settings=Settings(verify="all", cache="cold" if conditions.cache == "cold" else "warm"),
        batch=conditions.batch or 1,
        quantity=quantity_like(conditions),
        like=conditions,
    )
    return [m.scaled_to(predictor.facts.get("reference")) for m in measured]


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"torch cannot train on {device!r} here: {error}: give --device cpu") from error


def _options(predictor: TrainedPredictor) -> CompileOptions:
    conditions = predictor.conditions
    return CompileOptions(conditions.precision, conditions.threads, conditions.options)


def _check_measurable(predictor: TrainedPredictor) -> None:
    """Check that what is found can be measured here, under the conditions of the predictor.

    Raises:
        PluginError: it cannot; the message says why.
        MeasurementError: the references of the space cannot be measured.
    """
    try:
        _measure(predictor, [])  # the references alone
    except UsageError as error:
        raise PluginError(
            f"what the search finds cannot be measured here: {error}; or search with --no-measure"
        ) from error


def _parsed(targets: Sequence[str], unit: str) -> dict[str, tuple[float | None, bool]]:
    """Return for each target its number, None without one, and whether that is a share of what is found without one."""
    parsed: dict[str, tuple[float | None, bool]] = {}
    for target in targets:
        is_share = target.endswith("%")
        try:
            number = None if target == NO_TARGET else float(target.removesuffix("%")) / (100 if is_share else 1)
        except ValueError:
            number = math.nan
        if number is not None and not 0 < number < math.inf:
            raise UsageError(f"no target {target!r}: give 'none', a number of {unit}, or a share such as 75%")
        if is_share and NO_TARGET not in parsed:
            raise UsageError(f"the target {target} is a share of a search without a target: put 'none' before it")
        parsed[target] = number, is_share
    return parsed


def _title(target: str) -> str:
    return "without latency loss" if target == NO_TARGET else f"latency loss, {target}"


def _slug(target: str) -> str:
    return f"target-{target.replace('%', '-percent')}"


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1))

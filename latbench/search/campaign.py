"""Searches for one or more targets, from the alphas to the final table: search, derive, train, measure, compare."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latbench import plugins
from latbench.backend import Backend, CompileOptions, device_of
from latbench.errors import PluginError, UsageError
from latbench.measure.energy.windows import EnergySettings
from latbench.measure.settings import Settings
from latbench.meter import Meter
from latbench.profiling.architectures import measure_architectures
from latbench.records.measurement import Measurement
from latbench.search.latency_loss import LatencyLoss
from latbench.search.strategies.darts import search_architecture
from latbench.search.strategies.result import Epoch, SearchResult, SearchSettings
from latbench.search.tasks.training import TrainingSettings, train_architecture
from latbench.search.verification import Found, Verification, verify
from latbench.space import Architecture

if TYPE_CHECKING:
    from latbench.prediction.trained import TrainedPredictor
    from latbench.search.tasks.images import Images
    from latbench.space import SearchSpace

NO_TARGET = "none"


@dataclass(frozen=True, slots=True)
class Step:
    """Where a campaign stands, for whoever draws it: a search's epoch or a training's.

    Args:
        search: the target as it was asked for.
        doing: ``"searching"`` or ``"training"``.
        done: epochs finished.
        total: epochs in all.
    """

    search: str
    doing: str
    done: int
    total: int


def search_and_verify(
    predictor: TrainedPredictor,
    images: Images,
    *,
    targets: Sequence[str],
    folder: str | Path,
    settings: SearchSettings | None = None,
    training: TrainingSettings | None = None,
    device: str = "cpu",
    measure: bool = True,
    on_step: Callable[[Step], None] = lambda step: None,
) -> tuple[list[Verification], dict[str, SearchResult]]:
    """Search once for each target, train what was derived, and measure all of it on the predictor's backend.

    The folder keeps a checkpoint, the genotype and the history of each search, and ``final.json``; an interrupted
    campaign continues from it.

    Args:
        predictor: a differentiable predictor; its conditions say on which backend the result is measured.
        images: what to search and to train on.
        targets: ``"none"`` searches without steering, ``"1.2"`` asks for so much in the predictor's unit, ``"75%"``
            for that share of what the search before it, without a target, is predicted to take.
        folder: where everything is written.
        settings: hyper-parameters of the searches.
        training: hyper-parameters of the trainings.
        device: where the supernet and what it finds are trained.
        measure: whether what was found is measured; a predictor of an imported table has no backend that could.
        on_step: called before the first epoch and after each one.

    Returns:
        One row a target, and the searches by target.

    Raises:
        UsageError: a target that is none of these, a device that torch lacks, or images that do not fit the space.
        PluginError: the predictor's backend is not available here, or this is not the device that it predicts for.
        NotDifferentiableError: the predictor is not differentiable.
        MeasurementError: what was found cannot be measured.
    """
    settings, training = settings or SearchSettings(), training or TrainingSettings()
    space, folder = predictor.space, Path(folder)
    # What is wrong must not be found after hours.
    parsed = _parsed(targets, predictor.unit)
    _check_device(device)
    if measure:
        _check_target(predictor)
    results: dict[str, SearchResult] = {}
    found = []
    for target, (number, is_share) in parsed.items():
        asked = number
        if number is not None and is_share:
            asked = number * float(predictor.predict([results[NO_TARGET].architecture])[0])
        result = _search(
            predictor,
            images,
            target=target,
            asked=asked,
            settings=settings,
            folder=folder / _slug(target),
            device=device,
            on_step=on_step,
        )
        results[target] = result

        accuracy = _accuracy(
            space,
            result.architecture,
            images,
            settings=training,
            folder=folder / _slug(target),
            device=device,
            on_epoch=partial(_trained, on_step, target, training.epochs),
        )
        found.append(Found(_title(target), result.architecture, accuracy, asked))
    rows = verify(found, predictor, partial(_measure, predictor) if measure else None)
    _write(folder / "final.json", [dataclasses.asdict(row) for row in rows])
    return rows, results


def _search(
    predictor: TrainedPredictor,
    images: Images,
    *,
    target: str,
    asked: float | None,
    settings: SearchSettings,
    folder: Path,
    device: str,
    on_step: Callable[[Step], None],
) -> SearchResult:
    # Without a target the loss watches with weight 0, so that both histories can be laid side by side.
    loss = (
        LatencyLoss(predictor, weight=0.0) if asked is None else LatencyLoss(predictor, target=asked, penalty="hinge")
    )

    def searched(epoch: Epoch) -> None:
        on_step(Step(target, "searching", epoch.number + 1, settings.epochs))

    on_step(Step(target, "searching", 0, settings.epochs))
    result = search_architecture(
        predictor.space, images, latency_loss=loss, settings=settings, folder=folder, device=device, progress=searched
    )
    on_step(Step(target, "searching", settings.epochs, settings.epochs))  # also where all of it had been done before
    (folder / "genotype.txt").write_text(f"{result.architecture}\n")
    _write(folder / "history.json", [dataclasses.asdict(epoch) for epoch in result.history])
    return result


def _accuracy(
    space: SearchSpace,
    architecture: Architecture,
    images: Images,
    *,
    settings: TrainingSettings,
    folder: Path,
    device: str,
    on_epoch: Callable[[int], None],
) -> float:
    """Train what a search found, unless that has been done."""
    path = folder / "trained.json"
    trained = {"architecture": str(architecture), "images": images.name, "settings": dataclasses.asdict(settings)}
    if path.exists():
        before = json.loads(path.read_text())
        if {name: before.get(name) for name in trained} == trained:
            on_epoch(settings.epochs)
            return float(before["accuracy"])
    on_epoch(0)
    accuracy = train_architecture(
        space, architecture, images, settings=settings, device=device, progress=lambda epoch, loss: on_epoch(epoch + 1)
    )
    _write(path, {**trained, "accuracy": accuracy})
    return accuracy


def _trained(on_step: Callable[[Step], None], target: str, epochs: int, done: int) -> None:
    on_step(Step(target, "training", done, epochs))


def _measure(predictor: TrainedPredictor, architectures: Sequence[Architecture]) -> Sequence[Measurement]:
    """Measure under the predictor's conditions, with the drift since its profile divided out.

    Raises:
        UsageError: another device or version than the predictor's.
    """
    conditions, energy = predictor.conditions, _energy(predictor)
    measured = measure_architectures(
        predictor.space,
        architectures,
        conditions.backend,
        options=_options(predictor),
        settings=Settings(verify="all", cache="cold" if conditions.cache == "cold" else "warm"),
        batch=conditions.batch,
        energy=energy if architectures else None,
        # References alone have no energy to compare.
        like=None if energy and not architectures else conditions,
    )
    return [m.scaled_to(predictor.facts.get("reference")) for m in measured]


def _energy(predictor: TrainedPredictor) -> EnergySettings | None:
    return EnergySettings(meter=predictor.conditions.clock) if predictor.conditions.quantity == "energy" else None


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"torch cannot train on {device!r} here: {error}: give --device cpu") from error


def _options(predictor: TrainedPredictor) -> CompileOptions:
    conditions = predictor.conditions
    return CompileOptions(conditions.precision, conditions.threads, conditions.options)


def _check_target(predictor: TrainedPredictor) -> None:
    """Check that what is found can be measured here, under the conditions of the predictor.

    Raises:
        PluginError: it cannot; the message says why.
        MeasurementError: the references of the space cannot be measured.
    """
    name, energy = predictor.conditions.backend, _energy(predictor)
    try:
        backend: Backend = plugins.configure(plugins.BACKENDS, name, {})
        if energy is not None:
            meter: Meter = plugins.configure(plugins.METERS, energy.meter, {})
            meter.counter(device_of(backend, _options(predictor)))
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
            raise UsageError(f"the target {target} is a share of a search without one: put 'none' before it")
        parsed[target] = number, is_share
    return parsed


def _title(target: str) -> str:
    return "without latency loss" if target == NO_TARGET else f"latency loss, {target}"


def _slug(target: str) -> str:
    return f"target-{target.replace('%', '-percent')}"


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1))

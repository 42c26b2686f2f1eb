"""Searches for one or more targets, from the alphas to the final table: search, derive, train, measure, compare."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.backend import CompileOptions
from latbench.errors import UsageError
from latbench.measure import EnergySettings, measure_architectures
from latbench.measurement import Measurement
from latbench.search.darts import search_architecture
from latbench.search.latency_loss import LatencyLoss
from latbench.search.result import Epoch, SearchResult, SearchSettings
from latbench.search.training import TrainingSettings, train_architecture
from latbench.search.verification import Found, Verification, verify
from latbench.space import Architecture

if TYPE_CHECKING:
    from latbench.search.data import Images
    from latbench.trained_predictor import TrainedPredictor

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
        on_step: called after each epoch.

    Returns:
        One row a target, and the searches by target.

    Raises:
        UsageError: a target that is none of these, or images that do not fit the space.
        NotDifferentiableError: the predictor is not differentiable.
        MeasurementError: what was found cannot be measured.
    """
    settings, training = settings or SearchSettings(), training or TrainingSettings()
    space, folder = predictor.space, Path(folder)
    results: dict[str, SearchResult] = {}
    found = []
    for target in targets:
        asked = _value(target, predictor, results.get(NO_TARGET))
        result = _search(
            predictor,
            images,
            target=target,
            asked=asked,
            settings=settings,
            folder=folder / _slug(target),
            on_step=on_step,
        )
        results[target] = result

        def trained(epoch: int, loss: float, target: str = target) -> None:
            on_step(Step(target, "training", epoch + 1, training.epochs))

        accuracy = train_architecture(space, result.architecture, images, settings=training, progress=trained)
        found.append(Found(_title(target), result.architecture, accuracy, asked))
    rows = verify(found, predictor, lambda architectures: _measure(predictor, architectures))
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
    on_step: Callable[[Step], None],
) -> SearchResult:
    # Without a target the loss watches with weight 0, so that both histories can be laid side by side.
    loss = (
        LatencyLoss(predictor, weight=0.0) if asked is None else LatencyLoss(predictor, target=asked, penalty="hinge")
    )

    def searched(epoch: Epoch) -> None:
        on_step(Step(target, "searching", epoch.number + 1, settings.epochs))

    result = search_architecture(
        predictor.space, images, latency_loss=loss, settings=settings, folder=folder, progress=searched
    )
    (folder / "genotype.txt").write_text(f"{result.architecture}\n")
    _write(folder / "history.json", [dataclasses.asdict(epoch) for epoch in result.history])
    return result


def _measure(predictor: TrainedPredictor, architectures: Sequence[Architecture]) -> Sequence[Measurement]:
    """Measure under the predictor's conditions, with the drift since its profile divided out."""
    conditions = predictor.conditions
    options = CompileOptions(conditions.precision, conditions.threads, conditions.options)
    energy = EnergySettings(meter=conditions.clock) if conditions.quantity == "energy" else None
    measured = measure_architectures(
        predictor.space, architectures, conditions.backend, options=options, batch=conditions.batch, energy=energy
    )
    return [m.scaled_to(predictor.facts.get("reference")) for m in measured]


def _value(target: str, predictor: TrainedPredictor, untargeted: SearchResult | None) -> float | None:
    if target == NO_TARGET:
        return None
    share = target.endswith("%")
    try:
        number = float(target.removesuffix("%"))
    except ValueError:
        raise UsageError(
            f"no target {target!r}: give 'none', a number of {predictor.unit}, or a share such as 75%"
        ) from None
    if not share:
        return number
    if untargeted is None:
        raise UsageError(f"the target {target} is a share of a search without one: put 'none' before it")
    return number / 100 * float(predictor.predict([untargeted.architecture])[0])


def _title(target: str) -> str:
    return "without latency loss" if target == NO_TARGET else f"latency loss, {target}"


def _slug(target: str) -> str:
    return f"target-{target.replace('%', '-percent')}"


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1))

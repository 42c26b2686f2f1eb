"""Random search: the baseline that every other strategy has to beat (Li, Talwalkar, UAI 2019).

Architectures are drawn until enough live ones are predicted to meet the objectives. The first few are trained briefly
on one half of the training samples, and scored on the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.errors import UsageError
from latbench.search.strategies.checkpoint import made_folder, replace_file
from latbench.search.strategies.identity import Identity, check_identity, space_identity
from latbench.search.tasks.training import TrainingSettings, train_architecture
from latbench.strategy import Candidate, OnStep, Problem, Record, ignore_step

if TYPE_CHECKING:
    from latbench.space import Architecture

_CAP = 64
"""At most this many times `samples` architectures are drawn to find some that meet the objectives."""


class RandomStrategy:
    """Draws architectures that meet the objectives, and trains some of them. Any space will do.

    Args:
        samples: architectures to draw; more where too few of them meet the objectives.
        trained: networks to train, the first that were drawn.
        epochs: epochs of each training.
        batch_size: samples of one step.

    Raises:
        UsageError: a number is not positive.
    """

    name = "random"

    def __init__(self, *, samples: int = 64, trained: int = 4, epochs: int = 5, batch_size: int = 64) -> None:
        for name, value in (("samples", samples), ("trained", trained), ("epochs", epochs), ("batch_size", batch_size)):
            if value < 1:
                raise UsageError(f"{name} of a random search is {value}: give at least 1")
        self.samples, self.trained, self.epochs, self.batch_size = samples, trained, epochs, batch_size

    def search(
        self, problem: Problem, *, folder: str | Path | None = None, on_step: OnStep = ignore_step
    ) -> list[Candidate]:
        """Return the trained architectures, best score first; see `latbench.strategy.Strategy.search`.

        Raises:
            UsageError: no drawn architecture meets the objectives (the message says what is predicted), the task does
                not fit, the budget does not suffice, or the folder holds another search.
        """
        problem.check_budget(self.trained * self.epochs, "lower trained or epochs")
        tried = _Tried(made_folder(folder), self._identity(problem)) if folder else None
        scores = tried.read() if tried else {}
        chosen = self._draw(problem)
        history = []
        for number, architecture in enumerate(chosen):
            text = str(architecture)
            if text not in scores:
                scores[text] = self._score(problem, architecture)
                if tried:
                    tried.write(scores)
            predicted = float(problem.objectives[0].predicted([architecture])[0]) if problem.objectives else None
            history.append(Record(number=number, architecture=text, score=scores[text], predicted=predicted))
            on_step(number + 1, len(chosen))
        ranked = sorted(zip(chosen, history, strict=True), key=lambda pair: -(pair[1].score or 0.0))
        return [Candidate(architecture, record.score, tuple(history)) for architecture, record in ranked]

    def _draw(self, problem: Problem) -> list[Architecture]:
        """Return different live architectures that meet the objectives, in the order in which they were drawn."""
        kept: dict[str, Architecture] = {}
        drawn: Sequence[Architecture] = ()
        for count in _growing(self.samples):
            before, drawn = len(drawn), problem.space.sample(count, seed=problem.seed)
            fresh = drawn[before:]
            meets = problem.alive(fresh)
            for objective in problem.objectives:
                meets &= objective.meets(fresh)
            for architecture, met in zip(fresh, meets, strict=True):
                if met:
                    kept.setdefault(problem.space.canonical(architecture), architecture)
            if len(kept) >= self.trained:
                break
        if not kept:
            raise UsageError(_unmet(problem, drawn))
        return list(kept.values())[: self.trained]

    def _score(self, problem: Problem, architecture: Architecture) -> float:
        return train_architecture(
            problem.space,
            architecture,
            problem.task,
            settings=TrainingSettings(epochs=self.epochs, batch_size=self.batch_size, seed=problem.seed),
            device=problem.device,
            learn="first",
            judge="second",
        )

    def _identity(self, problem: Problem) -> Identity:
        return {
            "space": space_identity(problem.space),
            "task": problem.task.name,
            "seed": problem.seed,
            **{name: getattr(self, name) for name in ("samples", "trained", "epochs", "batch_size")},
            **{f"target {index + 1}": each.target for index, each in enumerate(problem.objectives)},
        }


class _Tried:
    """The scores of a search on disk, by the architectures' string forms."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.path, self.identity = folder / "tried.json", identity

    def read(self) -> dict[str, float]:
        """Return the scores so far.

        Raises:
            UsageError: the file is damaged, or belongs to another search.
        """
        if not self.path.exists():
            return {}
        try:
            document = json.loads(self.path.read_bytes())
            identity, scores = document["identity"], {str(a): float(score) for a, score in document["scores"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{self.path} cannot be read ({error}): delete it to start the search again") from error
        check_identity(self.path, identity, self.identity)
        return scores

    def write(self, scores: Mapping[str, float]) -> None:
        """Write down the scores so far.

        Raises:
            UsageError: the folder is read-only or full.
        """
        replace_file(self.path, json.dumps({"identity": self.identity, "scores": scores}, indent=1).encode())


def _growing(samples: int) -> list[int]:
    return [samples * factor for factor in (1, 4, 16, _CAP)]


def _unmet(problem: Problem, drawn: Sequence[Architecture]) -> str:
    """Say what is predicted for architectures of which none meets the objectives."""
    seen = []
    for objective in problem.objectives:
        if objective.target is not None:
            predicted, unit = objective.predicted(drawn), objective.predictor.unit
            seen.append(
                f"{objective.target:.4g} {unit} asked, {predicted.min():.4g} to {predicted.max():.4g} {unit} predicted"
            )
    what = f"none of {len(drawn):,} random architectures with a live path"
    return f"{what} meets the target: {'; '.join(seen)}; raise the target" if seen else f"the space holds {what}"

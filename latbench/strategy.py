"""The contract of a strategy: given a problem, it returns candidates.

A strategy is a plug-in built with its own keywords (``latbench.strategies``), and one method. What it needs beyond
`latbench.space.SearchSpace` (a supernet, neighbours) it names in ``requires``, and `check_requirements` refuses other
spaces before any hour is spent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latbench.errors import PluginError, UsageError
from latbench.plugins import STRATEGIES, load, names
from latbench.prediction.structure.networks import are_alive
from latbench.space import HasGraph
from latbench.spaces.settings import are_equal

if TYPE_CHECKING:
    from latbench.search.objectives.objective import Objective
    from latbench.space import Architecture, Encoder, SearchSpace
    from latbench.task import Task

OnStep = Callable[[int, int], None]
"""Called with how many of its steps a strategy has done, and how many there are: epochs, networks."""


def ignore_step(done: int, total: int) -> None:
    """Draw no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Where a search stood after one of its steps: an epoch, a network that was tried.

    Args:
        number: of the step, from 0.
        architecture: string form of the best architecture at this point, or of the one that was tried.
        score: of the task; None where the step gave none.
        predicted: the first objective's prediction for `architecture`, in its unit; None without an objective.
        expected: its prediction at the expected encoding; None for a strategy without alphas.
        encoding: the expected encoding ``(columns,)``; empty for a strategy without alphas.
        entropy: mean entropy of the alphas' softmax, 1 for uniform and 0 for decided ones; None without alphas.
    """

    number: int
    architecture: str
    score: float | None = None
    predicted: float | None = None
    expected: float | None = None
    encoding: tuple[float, ...] = ()
    entropy: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that a search returns.

    Args:
        architecture: of the problem's space.
        score: the task's score during the search, never on test samples; higher is better.
        history: how the search went, a record a step.
    """

    architecture: Architecture
    score: float | None = None
    history: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched for.

    Args:
        space: the search space.
        task: what the networks learn.
        objectives: what an architecture may take; all are to be met.
        device: the torch device that trains networks.
        seed: of every random choice.
        budget: epochs of training that the search may spend, all networks together; None leaves it to the strategy.

    Raises:
        UsageError: an objective's predictor is for another space, or the budget is not positive.
    """

    space: SearchSpace[Any]
    task: Task
    objectives: tuple[Objective, ...] = ()
    device: str = "cpu"
    seed: int = 0
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 1:
            raise UsageError(f"the budget is {self.budget} epochs: give at least 1")
        for objective in self.objectives:
            check_space(objective.predictor.space, self.space)

    def missed(self, architecture: Architecture) -> tuple[str, ...]:
        """Return the objectives that an architecture is predicted to miss, in words; empty where it meets all."""
        return tuple(
            f"{objective.predicted([architecture])[0]:.4g} {objective.predictor.unit} for a target of "
            f"{objective.target:.4g}"
            for objective in self.objectives
            if not objective.meets([architecture])[0]
        )

    def alive(self, architectures: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Return for each architecture ``(n,)`` whether a path leads through it; see `live`."""
        return live(self.space, architectures)

    def check_budget(self, epochs: int, remedy: str) -> None:
        """Refuse a search that spends more epochs than the problem allows.

        Raises:
            UsageError: it does; the message ends with the remedy.
        """
        if self.budget is not None and epochs > self.budget:
            raise UsageError(f"the search takes {epochs} epochs of training and the budget is {self.budget}: {remedy}")


class Strategy(Protocol):
    """A way to search. See the module's docstring."""

    name: str
    """Equals the entry-point name."""

    def search(
        self, problem: Problem, *, folder: str | Path | None = None, on_step: OnStep = ignore_step
    ) -> Sequence[Candidate]:
        """Return candidates of the problem's space, best first: at least one, and none that is dead (`Problem.alive`).

        The same problem gives the same candidates. A search that was interrupted continues from its folder and ends as
        if it had not been; a folder of another search is refused.

        Args:
            problem: what is searched for; its random choices come from its seed, and the caller's stay as they are.
            folder: where the search keeps its state, made if missing; None keeps none.
            on_step: called after every step.

        Raises:
            UsageError: the strategy cannot search this space, the task does not fit it, no architecture was found that
                meets the objectives, or the folder holds another search.
        """
        ...


class HasRequirements(Protocol):
    """A strategy, or its class, that says what it needs of a space beyond `latbench.space.SearchSpace`."""

    name: str
    requires: tuple[str, ...]
    """Methods that it calls: ``("relaxation", "supernet")``."""


def check_requirements(strategy: HasRequirements | type[HasRequirements], space: SearchSpace[Any]) -> None:
    """Refuse a space that lacks what a strategy needs, before any hour is spent.

    Raises:
        UsageError: a method is missing; the message names the registered strategies that can search the space.
    """
    missing = [method for method in strategy.requires if not hasattr(space, method)]
    if missing:
        able = " or ".join(repr(name) for name in _able(space))
        raise UsageError(
            f"strategy {strategy.name!r} needs a space with {_methods(strategy.requires)}, and space {space.name!r} "
            f"has no {_methods(missing)}: {f'use strategy {able}' if able else 'give the space these methods'}"
        )


def _able(space: SearchSpace[Any]) -> list[str]:
    """Return the strategies that load here and whose requirements a space meets."""
    found = []
    for name in names(STRATEGIES):
        try:
            strategy = load(STRATEGIES, name)
        except PluginError:
            continue
        if all(hasattr(space, method) for method in getattr(strategy, "requires", ())):
            found.append(name)
    return found


def _methods(names: Sequence[str]) -> str:
    return " and ".join(f"{name}()" for name in names)


def live(space: Encoder[Any], architectures: Sequence[Architecture]) -> NDArray[np.bool_]:
    """Return for each architecture ``(n,)`` whether a path leads through it; true where the space has no graph.

    A network without one computes a constant: fast, and never the answer.
    """
    if not isinstance(space, HasGraph):
        return np.ones(len(architectures), dtype=np.bool_)
    return are_alive(tuple(space.graphs()), space.columns, space.encode(architectures))


def check_space(predicted: Encoder[Any], space: Encoder[Any]) -> None:
    """Refuse a predictor for another space, or for another configuration of it.

    Args:
        predicted: the predictor's space.
        space: what is searched.

    Raises:
        UsageError: they differ; the message names the field.
    """
    if type(predicted) is not type(space):
        raise UsageError(
            f"the predictor is for space {_title(predicted)} and the search is in {_title(space)}: "
            "fit a predictor for this space"
        )
    if are_equal(predicted, space):
        return
    there, here = (_fields(each) for each in (predicted, space))
    differ = next((name for name in here if there.get(name) != here[name]), None)
    what = f"{differ} is {there[differ]!r} there and {here[differ]!r} here" if differ else "they are not equal"
    raise UsageError(
        f"the predictor is for another configuration of space {_title(space)}: {what}; fit a predictor for this one"
    )


def _title(space: Encoder[Any]) -> str:
    return repr(getattr(space, "name", type(space).__name__))


def _fields(space: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(space):
        return {}
    return {field.name: getattr(space, field.name) for field in dataclasses.fields(space)}

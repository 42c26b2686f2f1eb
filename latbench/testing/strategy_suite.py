"""The contract of a strategy as tests: a plug-in's test file is one subclass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.errors import UsageError
from latbench.plugins import STRATEGIES, configure
from latbench.search.objectives.objective import Objective
from latbench.search.tasks.classification import Classification
from latbench.search.tasks.images import Images
from latbench.strategy import Candidate, Problem
from latbench.task import Batch, Part, Task
from latbench.testing.known_cost import KnownCost
from latbench.testing.tiny_space import TinySpace


class StrategySuite:
    """Every promise of `latbench.strategy.Strategy`, on a tiny space with a predictor of known cost.

    Subclass it and set the entry-point name::

        class TestMyStrategy(StrategySuite):
            strategy = "mine"

    `options` makes it quick. `resumes` is False for one that keeps no state: an interrupted search starts again.
    """

    strategy: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    resumes: ClassVar[bool] = True

    def create(self) -> Any:
        """Return the strategy under test."""
        return configure(STRATEGIES, self.strategy, self.options)

    def space(self) -> Any:
        """Return a space that it can search, whose networks classify images of 8x8 pixels."""
        return TinySpace()

    def problem(self, target: float | None = None, *, task: Task | None = None, seed: int = 0) -> Problem:
        """Return a problem: two classes that differ by brightness, and a target in ms."""
        space = self.space()
        objective = Objective(KnownCost(space), self.median() if target is None else target)
        return Problem(space, Classification(_images(8)) if task is None else task, (objective,), seed=seed)

    def median(self) -> float:
        """Return the median cost of the space's architectures, in ms."""
        space = self.space()
        return float(np.median(KnownCost(space).predict(space.sample(200, seed=0))))

    def test_its_name_is_the_entry_point(self) -> None:
        """Messages call it what the user calls it."""
        assert ":" in self.strategy or self.create().name == self.strategy

    def test_an_unknown_keyword_is_a_usage_error(self) -> None:
        """The user misspelt it."""
        with pytest.raises(UsageError):
            configure(STRATEGIES, self.strategy, {"no_such_keyword": 1})

    def test_candidates_are_architectures_of_the_space_best_first(self) -> None:
        """They can be written down, built and compared; the history says how the search came to them."""
        problem, steps = self.problem(), []
        candidates = self.create().search(problem, on_step=lambda done, total: steps.append((done, total)))
        assert candidates
        for candidate in candidates:
            assert problem.space.parse(str(candidate.architecture)) == candidate.architecture
            for number, record in enumerate(candidate.history):
                assert record.number == number
                problem.space.parse(record.architecture)
        scores = [candidate.score for candidate in candidates if candidate.score is not None]
        assert scores == sorted(scores, reverse=True)
        assert all(math.isfinite(score) for score in scores)
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]

    def test_no_candidate_is_dead(self) -> None:
        """The fastest networks of a space compute a constant: a low target leads to them."""
        space = self.space()
        values = KnownCost(space).predict(space.sample(200, seed=0))
        problem = self.problem(float(np.quantile(values, 0.1)))
        try:
            candidates = self.create().search(problem)
        except UsageError:
            return  # nothing that meets the target, in words
        assert problem.alive([candidate.architecture for candidate in candidates]).all()

    def test_a_target_within_reach_is_met(self) -> None:
        """Half of the architectures meet it."""
        problem = self.problem()
        assert not problem.missed(self.create().search(problem)[0].architecture)

    def test_a_target_out_of_reach_is_refused_or_seen_to_be_missed(self) -> None:
        """No architecture meets it: the message names the target, or the best that there is misses it."""
        problem = self.problem(0.1)
        try:
            candidates = self.create().search(problem)
        except UsageError as refusal:
            assert "0.1" in str(refusal)  # noqa: PT017 - returning candidates is fine too
        else:
            assert problem.missed(candidates[0].architecture)

    def test_the_same_problem_gives_the_same_candidates(self) -> None:
        """Random choices come from the problem's seed, and the caller's stay as they are."""
        torch.manual_seed(7)
        before = torch.get_rng_state()
        first = self.create().search(self.problem())
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(8)
        assert _same(self.create().search(self.problem()), first)

    def test_an_interrupted_search_ends_as_if_it_had_not_been(self, tmp_path: Path) -> None:
        """What was done is not done again."""
        whole, resumed = _Counted(Classification(_images(8))), _Counted(Classification(_images(8)))
        expected = self.create().search(self.problem(task=whole), folder=tmp_path / "whole")
        with pytest.raises(_StoppedError):
            self.create().search(self.problem(task=whole), folder=tmp_path / "cut", on_step=_stop)
        again = self.create().search(self.problem(task=resumed), folder=tmp_path / "cut")
        assert _same(again, expected)
        finished = _Counted(Classification(_images(8)))
        assert _same(self.create().search(self.problem(task=finished), folder=tmp_path / "cut"), expected)
        if self.resumes:
            assert finished.losses == [0]
            assert resumed.losses[0] < whole.losses[0] or not whole.losses[0]

    def test_the_folder_of_another_search_is_refused(self, tmp_path: Path) -> None:
        """Its state belongs to another problem; a strategy that keeps no state takes nothing from it."""
        self.create().search(self.problem(), folder=tmp_path)
        if not self.resumes:
            again = self.create().search(self.problem(seed=1), folder=tmp_path)
            assert _same(again, self.create().search(self.problem(seed=1)))
            return
        with pytest.raises(UsageError):
            self.create().search(self.problem(seed=1), folder=tmp_path)

    def test_a_task_that_does_not_fit_is_refused(self) -> None:
        """The images are larger than the space takes."""
        with pytest.raises(UsageError):
            self.create().search(self.problem(task=Classification(_images(16))))

    def test_it_keeps_to_a_budget_or_refuses_it(self) -> None:
        """One epoch of training, all networks together."""
        task = _Counted(Classification(_images(8)))
        try:
            self.create().search(dataclasses.replace(self.problem(task=task), budget=1))
        except UsageError as refusal:
            assert "budget" in str(refusal)  # noqa: PT017 - keeping to it is fine too
        assert task.losses[0] <= len(_images(8).train_y)

    def test_a_space_without_more_than_it_must_have_is_searched_or_refused(self) -> None:
        """It has no supernet, no relaxation, no neighbours."""
        problem, bare = self.problem(), _Bare(self.space())
        objective = Objective(KnownCost(bare), self.median())
        try:
            candidates = self.create().search(Problem(bare, problem.task, (objective,)))
        except UsageError as refusal:
            assert "bare" in str(refusal)  # noqa: PT017 - returning candidates is fine too
        else:
            assert candidates


class _StoppedError(Exception):
    pass


def _stop(done: int, total: int) -> None:
    raise _StoppedError


def _same(ours: Sequence[Candidate], theirs: Sequence[Candidate]) -> bool:
    return list(ours) == list(theirs)


def _images(size: int) -> Images:
    """Return images of two classes that differ by brightness."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(96) % 2
    x = torch.randn(96, 3, size, size, generator=generator) + y[:, None, None, None]
    return Images("brightness", x[:64], y[:64], x[64:], y[64:])


class _Counted:
    """A task that counts its losses, in one place for all that it is fitted to."""

    def __init__(self, task: Task, losses: list[int] | None = None) -> None:
        self.task, self.name = task, task.name
        self.losses = [0] if losses is None else losses

    def for_inputs(self, inputs: Sequence[Tensor]) -> _Counted:
        return _Counted(self.task.for_inputs(inputs), self.losses)

    def batches(self, part: Part, size: int) -> Iterator[Batch]:
        return self.task.batches(part, size)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        self.losses[0] += 1
        return self.task.loss(outputs, batch)

    def score(self, module: nn.Module, part: Part = "test") -> float:
        return self.task.score(module, part)


class _Bare:
    """A space with what every space has, and no more."""

    name: ClassVar[str] = "bare"

    def __init__(self, space: Any) -> None:
        self.space = space
        self.columns, self.parse, self.canonical = space.columns, space.parse, space.canonical
        self.encode, self.sample, self.inputs, self.build = space.encode, space.sample, space.inputs, space.build

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bare) and other.space == self.space

    def __hash__(self) -> int:
        return hash(self.space)

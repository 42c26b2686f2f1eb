"""Our own strategies through the suite that a stranger's goes through, and what each does beyond it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from latbench.errors import UsageError
from latbench.search import Objective, RandomStrategy, SearchSettings
from latbench.search.strategies import random
from latbench.search.strategies.darts import DartsStrategy
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.strategy import Problem
from latbench.testing import KnownCost, StrategySuite


class TestDarts(StrategySuite):
    strategy = "darts"
    options: ClassVar = {"epochs": 6, "batch_size": 16, "alpha_lr": 0.3, "warmup_epochs": 1}

    def test_its_defaults_are_those_of_the_settings(self) -> None:
        assert DartsStrategy().settings == SearchSettings()


class TestRandom(StrategySuite):
    strategy = "random"
    options: ClassVar = {"samples": 16, "trained": 3, "epochs": 1, "batch_size": 16}

    def test_every_candidate_meets_every_objective(self) -> None:
        problem = self.problem()
        other = KnownCost(problem.space, np.linspace(0, 1, 30))
        tight = Objective(other, float(np.quantile(other.predict(problem.space.sample(200, seed=0)), 0.3)))
        both = replace(problem, objectives=(*problem.objectives, tight))
        found = self.create().search(both)
        assert len(found) == 3
        assert not [missed for candidate in found for missed in both.missed(candidate.architecture)]

    def test_more_are_drawn_where_few_meet_the_target(self) -> None:
        space = self.space()
        values = np.sort(KnownCost(space).predict(space.sample(16 * 64, seed=0)))
        found = self.create().search(self.problem(float(values[2])))
        assert KnownCost(space).predict([each.architecture for each in found]).max() <= values[2]

    def test_a_target_out_of_reach_says_what_is_predicted(self) -> None:
        space = self.space()
        values = KnownCost(space).predict(space.sample(16 * 64, seed=0))
        said = rf"none of 1,024 random.*0\.1 ms asked, {values.min():.4g} to {values.max():.4g} ms predicted"
        with pytest.raises(UsageError, match=said):
            self.create().search(self.problem(0.1))

    def test_the_first_that_were_drawn_are_trained(self) -> None:
        problem = self.problem(100.0)
        history = self.create().search(problem)[0].history
        drawn = dict.fromkeys(map(problem.space.canonical, problem.space.sample(16, seed=0)))
        tried = [problem.space.canonical(problem.space.parse(record.architecture)) for record in history]
        assert tried == list(drawn)[:3]

    def test_no_test_sample_is_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[dict[str, Any]] = []
        train = random.train_architecture

        def watched(*given: Any, **options: Any) -> float:
            asked.append(options)
            return train(*given, **options)

        monkeypatch.setattr(random, "train_architecture", watched)
        self.create().search(self.problem())
        assert {(options["learn"], options["judge"]) for options in asked} == {("first", "second")}

    @pytest.mark.parametrize("content", ["", "[]", '{"identity": {}}', '{"identity": {}, "scores": 3}'])
    def test_a_damaged_file_is_named(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "tried.json").write_text(content)
        with pytest.raises(UsageError, match=r"tried\.json cannot be read"):
            self.create().search(self.problem(), folder=tmp_path)

    def test_its_file_holds_scores_by_architecture(self, tmp_path: Path) -> None:
        found = self.create().search(self.problem(), folder=tmp_path)
        document = json.loads((tmp_path / "tried.json").read_text())
        assert document["scores"] == {str(each.architecture): each.score for each in found}

    @pytest.mark.parametrize("name", ["samples", "trained", "epochs", "batch_size"])
    def test_a_number_that_is_not_positive_is_refused(self, name: str) -> None:
        with pytest.raises(UsageError, match=f"{name} of a random search is 0"):
            RandomStrategy(**{name: 0})


def test_a_problem_with_a_predictor_for_another_space_is_refused() -> None:
    space = NasBench201Space(cells=1, channels=4, image=8)
    objective = Objective(KnownCost(replace(space, cells=5)), 1.0)
    task: Any = None
    with pytest.raises(UsageError, match="another configuration of space 'nasbench201': cells is 5 there and 1 here"):
        Problem(space, task, (objective,))
    with pytest.raises(UsageError, match="the budget is 0 epochs"):
        Problem(space, task, budget=0)

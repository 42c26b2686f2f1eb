"""A campaign of searches: what is wrong with it is said before the hours begin, and what it asked for is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latbench.errors import PluginError, UsageError
from latbench.measure.settings import Settings
from latbench.prediction.fit import fit
from latbench.prediction.trained import TrainedPredictor
from latbench.profiling import profile_space
from latbench.search import DartsStrategy, Images, campaign
from latbench.search.campaign import Step, search_and_verify
from latbench.search.tasks.training import TrainingSettings
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store
from latbench.strategy import Candidate, Problem, live

SPACE = NasBench201Space(cells=1, channels=4, image=8)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> TrainedPredictor:
    path = tmp_path_factory.mktemp("runs") / "a.db"
    fast = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")
    profile_space(SPACE, "latbench.testing:NullBackend", path, samples=20, settings=fast, with_operations=True)
    with Store(path) as opened:
        return fit(opened.profile(), "lookup")


class Searched:
    """A strategy that must not be asked."""

    name = "searched"

    def search(self, problem: Problem, **_: Any) -> list[Candidate]:
        pytest.fail("a search began")


class First:
    """A strategy that offers the first sample, whatever was asked."""

    name = "first"

    def search(self, problem: Problem, *, on_step: Any, **_: Any) -> list[Candidate]:
        on_step(1, 1)
        return [Candidate(problem.space.sample(1, seed=0)[0])]


def images() -> Images:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((64, 3, 8, 8), dtype=np.float32))
    y = torch.arange(64) % 10
    return Images("few", x, y, x, y)


def run(predictor: TrainedPredictor, folder: Path, *targets: str, **more: Any) -> tuple[list[Any], list[Step]]:
    steps: list[Step] = []
    options: dict[str, Any] = {
        "strategy": DartsStrategy(epochs=2, batch_size=32),
        "training": TrainingSettings(epochs=1, batch_size=32),
        "on_note": lambda note: None,
    }
    rows, _ = search_and_verify(
        predictor, images(), targets=targets, folder=folder, on_step=steps.append, **(options | more)
    )
    return rows, steps


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("none", "abc"), "no target 'abc'"),
        (("none", "nan"), "no target 'nan'"),
        (("none", "0"), "no target '0'"),
        (("none", "-5%"), "no target '-5%'"),
        (("75%", "none"), "put 'none' before it"),
    ],
)
def test_a_wrong_target_is_refused_before_anything_is_searched(
    targets: tuple[str, ...], message: str, predictor: TrainedPredictor, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        run(predictor, tmp_path, *targets, strategy=Searched())


def test_a_device_that_torch_lacks_is_refused(predictor: TrainedPredictor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot train on 'abacus' here: .*: give --device cpu"):
        run(predictor, tmp_path, "none", device="abacus")


def test_a_predictor_without_its_backend_searches_only_without_measuring(
    predictor: TrainedPredictor, tmp_path: Path
) -> None:
    imported = replace(predictor, conditions=replace(predictor.conditions, backend="imported"))
    with pytest.raises(PluginError, match=r"cannot be measured here: no backend named 'imported'.*--no-measure"):
        run(imported, tmp_path, "none")
    assert not [*tmp_path.iterdir()]
    (row,), _ = run(imported, tmp_path, "none", measure=False)
    assert (row.measured, row.low, row.high) == (None,) * 3
    assert row.predicted > 0


def test_what_is_found_is_measured_as_the_profile_was(
    predictor: TrainedPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    measure = campaign.measure_architectures

    def watched(*given: Any, **options: Any) -> Any:
        asked.update(options)
        return measure(*given, **options)

    monkeypatch.setattr(campaign, "measure_architectures", watched)
    cold = replace(predictor, conditions=replace(predictor.conditions, cache="cold", batch=2))
    (plain, steered), steps = run(cold, tmp_path, "none", "50%")
    assert (asked["settings"].cache, asked["batch"]) == ("cold", 2)
    assert plain.measured > 0
    assert steered.asked == pytest.approx(0.5 * plain.predicted)
    assert [(s.search, s.doing, s.done) for s in steps[:5]] == [
        *[("none", "searching", done) for done in (0, 1, 2, 2)],
        ("none", "training", 0),
    ]


def test_a_predictor_of_another_device_is_refused_before_anything_is_searched(
    predictor: TrainedPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = replace(predictor.conditions.device, name="another machine")
    foreign = replace(predictor, conditions=replace(predictor.conditions, device=device))
    with pytest.raises(PluginError, match=r"cannot be compared: device\.name differ: profile again here.*--no-measure"):
        run(foreign, tmp_path, "none")
    crowded = replace(predictor, conditions=replace(predictor.conditions, threads=10_000))
    with pytest.raises(PluginError, match=r"10000 threads do not fit.*--no-measure"):
        run(crowded, tmp_path, "none")


def test_what_was_trained_is_not_trained_again(
    predictor: TrainedPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,), _ = run(predictor, tmp_path, "none", measure=False)
    monkeypatch.setattr(campaign, "train_architecture", None)
    (again,), steps = run(predictor, tmp_path, "none", measure=False)
    assert again == first
    assert steps[-1] == Step("none", "training", 1, 1)


def test_any_strategy_searches_and_shares_are_of_what_it_found(predictor: TrainedPredictor, tmp_path: Path) -> None:
    (plain, steered), steps = run(
        predictor, tmp_path, "none", "90%", strategy="random", options={"trained": 2, "epochs": 1}, measure=False
    )
    assert steered.asked == pytest.approx(0.9 * plain.predicted)
    assert steered.predicted <= steered.asked
    assert Step("none", "searching", 2, 2) in steps
    history = json.loads((tmp_path / "target-90-percent" / "history.json").read_text())
    assert [record["number"] for record in history] == [0, 1]
    assert (tmp_path / "target-none" / "genotype.txt").read_text().strip() == plain.architecture


def test_a_keyword_that_the_strategy_does_not_take_is_refused(predictor: TrainedPredictor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="strategy 'random' has no keyword 'alpha_lr'"):
        run(predictor, tmp_path, "none", strategy="random", options={"alpha_lr": 0.1})
    with pytest.raises(UsageError, match="an object with options of its own: leave out epochs"):
        run(predictor, tmp_path, "none", options={"epochs": 1})
    with pytest.raises(PluginError, match="no strategy named 'drats': did you mean 'darts'"):
        run(predictor, tmp_path, "none", strategy="drats")


def reach(predictor: TrainedPredictor) -> tuple[float, float]:
    drawn = SPACE.sample(1000, seed=0)
    predicted = predictor.predict([each for each in drawn if live(SPACE, [each])[0]])
    return float(predicted.min()), float(predicted.max())


@pytest.mark.parametrize(("factor", "why"), [(0.8, "too little for any of them"), (1.2, "steers nothing")])
def test_a_target_just_out_of_reach_is_said_before_the_search(
    factor: float, why: str, predictor: TrainedPredictor, tmp_path: Path
) -> None:
    notes: list[str] = []

    class Asked(First):
        def search(self, problem: Problem, **more: Any) -> list[Candidate]:
            assert why in notes[0]
            return super().search(problem, **more)

    fastest, slowest = reach(predictor)
    target = f"{factor * (fastest if factor < 1 else slowest):g}"
    run(predictor, tmp_path, target, strategy=Asked(), measure=False, on_note=notes.append)
    assert f"{fastest:.4g} to {slowest:.4g} ms" in notes[0]
    assert len(notes) == (2 if factor < 1 else 1)


def test_a_target_far_out_of_reach_is_refused(predictor: TrainedPredictor, tmp_path: Path) -> None:
    fastest, slowest = reach(predictor)
    assert slowest < 30
    for target, message in (
        (f"{fastest / 3:g}", f"is too little for any of them: .* {fastest:.4g} to {slowest:.4g} ms; ask for"),
        ("75", "more than any of them takes.*for a share of what is found without a target, write 75%; ask for"),
        ("1e6", "more than any of them takes.* ms; ask for"),
    ):
        with pytest.raises(UsageError, match=message):
            run(predictor, tmp_path, "none", target, strategy=Searched(), measure=False)


def test_a_target_that_was_missed_is_said(predictor: TrainedPredictor, tmp_path: Path) -> None:
    notes: list[str] = []
    run(predictor, tmp_path, "none", "90%", strategy=First(), measure=False, on_note=notes.append)
    assert [note for note in notes if "target 90% found nothing that meets it" in note]


def test_a_strategy_without_a_candidate_is_named(predictor: TrainedPredictor, tmp_path: Path) -> None:
    class Empty(First):
        def search(self, problem: Problem, **_: Any) -> list[Candidate]:
            return []

    with pytest.raises(UsageError, match="strategy 'first' found no candidate for target none"):
        run(predictor, tmp_path, "none", strategy=Empty(), measure=False)


def test_a_search_never_ends_in_a_dead_network(predictor: TrainedPredictor, tmp_path: Path) -> None:
    dead, alive = (
        SPACE.parse(f"|{kind}~0|+|none~0|none~1|+|{kind}~0|none~1|none~2|") for kind in ("none", "nor_conv_1x1")
    )

    class Mixed(First):
        def search(self, problem: Problem, **_: Any) -> list[Candidate]:
            return [Candidate(dead), *([Candidate(alive)] if problem.objectives[0].target else [])]

    with pytest.raises(UsageError, match=r"strategy 'first' found only networks without a path .* target none"):
        run(predictor, tmp_path / "none", "none", strategy=Mixed(), measure=False)
    rows, _ = run(predictor, tmp_path / "some", "0.2", strategy=Mixed(), measure=False)
    assert rows[0].architecture == str(alive)

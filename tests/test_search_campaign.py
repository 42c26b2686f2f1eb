"""A campaign of searches: what is wrong with it is said before the hours begin, and what it asked for is measured."""

from __future__ import annotations

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
from latbench.search import Images, SearchSettings, campaign
from latbench.search.campaign import Step, search_and_verify
from latbench.search.tasks.training import TrainingSettings
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store

SPACE = NasBench201Space(cells=1, channels=4, image=8)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> TrainedPredictor:
    path = tmp_path_factory.mktemp("runs") / "a.db"
    fast = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")
    profile_space(SPACE, "latbench.testing:NullBackend", path, samples=20, settings=fast)
    with Store(path) as opened:
        return fit(opened.profile(), "lookup")


def images() -> Images:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((64, 3, 8, 8), dtype=np.float32))
    y = torch.arange(64) % 10
    return Images("few", x, y, x, y)


def run(predictor: TrainedPredictor, folder: Path, *targets: str, **more: Any) -> tuple[list[Any], list[Step]]:
    steps: list[Step] = []
    rows, _ = search_and_verify(
        predictor,
        images(),
        targets=targets,
        folder=folder,
        settings=SearchSettings(epochs=2, batch_size=32),
        training=TrainingSettings(epochs=1, batch_size=32),
        on_step=steps.append,
        **more,
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
    targets: tuple[str, ...], message: str, predictor: TrainedPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "search_architecture", None)
    with pytest.raises(UsageError, match=message):
        run(predictor, tmp_path, *targets)


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
    assert (row.measured, row.low, row.high, row.prediction_error, row.excess) == (None,) * 5
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

"""Predictor files: what is written is read back, and whatever else is in a file is refused in words."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.linear_model import Ridge

from latbench.errors import PredictorFileError, UsageError
from latbench.prediction.file import load_predictor, save_predictor
from latbench.prediction.fit import fit
from latbench.prediction.trained import TrainedPredictor
from latbench.records.profile import Profile
from latbench.space import SpaceSpec
from latbench.testing.additive_profile import additive_profile


@pytest.fixture(scope="module")
def profile() -> Profile:
    return additive_profile(40)


@pytest.fixture(scope="module")
def trained(profile: Profile) -> TrainedPredictor:
    return fit(profile, "lookup")


@pytest.fixture
def path(tmp_path: Path, trained: TrainedPredictor) -> Path:
    save_predictor(tmp_path / "lookup.safetensors", trained)
    return tmp_path / "lookup.safetensors"


def header_of(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["latbench"])
    return header


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    data = path.read_bytes()
    header, arrays = header_of(data), load(data)
    change(header, arrays)
    path.write_bytes(save(arrays, {"latbench": json.dumps(header)}))


def test_everything_comes_back(path: Path, trained: TrainedPredictor, profile: Profile) -> None:
    again = load_predictor(path)
    assert (again.plugin, again.space, again.unit) == ("lookup", profile.space, "ms")
    assert (again.conditions, again.facts) == (trained.conditions, trained.facts)
    np.testing.assert_array_equal(again.predict(profile.X), trained.predict(profile.X))


SCIKIT_LEARN = {
    "sklearn.svm:SVR": {"C": 10.0},
    "sklearn.ensemble:RandomForestRegressor": {"n_estimators": 10},
    "sklearn.ensemble:ExtraTreesRegressor": {"n_estimators": 10, "max_leaf_nodes": 8},
    "sklearn.ensemble:GradientBoostingRegressor": {"n_estimators": 10},
    "sklearn.ensemble:HistGradientBoostingRegressor": {"max_iter": 10, "min_samples_leaf": 3},
    "sklearn.ensemble:AdaBoostRegressor": {"n_estimators": 5},
    "sklearn.ensemble:BaggingRegressor": {"n_estimators": 5, "max_features": 0.5},
    "sklearn.tree:DecisionTreeRegressor": {},
    "sklearn.neighbors:KNeighborsRegressor": {"algorithm": "kd_tree"},
    "sklearn.neural_network:MLPRegressor": {"max_iter": 1000, "tol": 0.01},
    "sklearn.gaussian_process:GaussianProcessRegressor": {"optimizer": None},
    "sklearn.linear_model:TweedieRegressor": {},
    "sklearn.svm:LinearSVR": {},
}


@pytest.mark.parametrize("name", SCIKIT_LEARN)
def test_regressors_of_scikit_learn_come_back(tmp_path: Path, profile: Profile, name: str) -> None:
    trained = fit(profile, name, **SCIKIT_LEARN[name])
    save_predictor(tmp_path / "predictor", trained)
    again = load_predictor(tmp_path / "predictor", profile.space)
    X = np.vstack([profile.X, profile.X.reshape(20, 2, -1).mean(axis=1)])
    np.testing.assert_allclose(again.predict(X), trained.predict(X), rtol=1e-13)
    assert str(again.estimator) == str(trained.estimator)


def test_another_space_is_refused_by_both_names(path: Path) -> None:
    other = SpaceSpec("nasbench201", {"channels": 8}).create()
    with pytest.raises(PredictorFileError) as error:
        load_predictor(path, other)
    assert str(SpaceSpec.of(additive_profile(1).space)) in str(error.value)
    assert str(SpaceSpec.of(other)) in str(error.value)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PredictorFileError, match="no predictor file, or a truncated one"):
        load_predictor(path)


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04" * 30, b"text\n" * 30, save({"a": np.ones(3)}), save({}, {"latbench": "[]"})]
)
def test_a_foreign_file_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(PredictorFileError, match="no predictor file"):
        load_predictor(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictorFileError, match="No such file"):
        load_predictor(tmp_path / "missing")
    with pytest.raises(PredictorFileError, match="directory"):
        load_predictor(tmp_path)


CHANGES = {
    "format 99, this version reads 1": lambda header, arrays: header.update(format=99),
    "damaged header": lambda header, arrays: header.pop("conditions"),
    "no such space is installed": lambda header, arrays: header["space"].update(name="nowhere"),
    "predictor 'mpl', which is not installed": lambda header, arrays: header.update(plugin="mpl"),
    "holds no state of predictor 'lookup'": lambda header, arrays: arrays.pop("coef"),
    "holds no state of predictor 'mlp'": lambda header, arrays: header.update(plugin="mlp", params={}),
    "holds no state of predictor 'ridge'": lambda header, arrays: header.update(plugin="ridge", params={}),
    "predicts from 5 columns": lambda header, arrays: arrays.update(coef=np.ones(5)),
    "holds no skops archive": lambda header, arrays: header.update(state="skops"),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_file_that_contradicts_itself_is_refused(path: Path, message: str) -> None:
    rewrite(path, CHANGES[message])
    with pytest.raises(PredictorFileError, match=message):
        load_predictor(path)


def test_a_file_cannot_import_a_module(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("from latbench_lookup import LookupRegressor as Bait\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    rewrite(path, lambda header, arrays: header.update(plugin="trap:Bait"))
    with pytest.raises(PredictorFileError, match="not installed here"):
        load_predictor(path)
    assert "trap" not in sys.modules
    rewrite(path, lambda header, arrays: header["space"].update(name="trap:Bait"))
    with pytest.raises(PredictorFileError, match="no such space"):
        load_predictor(path, plugin="trap:Bait")
    assert "trap" not in sys.modules


def test_the_caller_may_name_a_class_that_is_not_registered(tmp_path: Path, profile: Profile) -> None:
    trained = fit(profile, "latbench_lookup:LookupRegressor")
    save_predictor(tmp_path / "own", trained)
    again = load_predictor(tmp_path / "own", plugin="latbench_lookup:LookupRegressor")
    np.testing.assert_array_equal(again.predict(profile.X), trained.predict(profile.X))


def test_types_that_only_pickle_could_restore_are_refused(tmp_path: Path, profile: Profile) -> None:
    from lightgbm import LGBMRegressor

    estimator = LGBMRegressor(n_estimators=2, verbose=-1).fit(profile.X, profile.y)
    trained = TrainedPredictor(estimator, "lightgbm:LGBMRegressor", profile.space, profile.conditions, {})
    with pytest.raises(PredictorFileError, match=r"LGBMRegressor, which cannot be restored safely.*to_arrays"):
        save_predictor(tmp_path / "lightgbm", trained)
    assert not list(tmp_path.iterdir())
    with pytest.raises(PredictorFileError, match="LGBMRegressor"):
        fit(profile, "lightgbm:LGBMRegressor", n_estimators=2, verbose=-1)


def test_a_skops_archive_of_a_foreign_type_is_refused(tmp_path: Path, profile: Profile) -> None:
    from skops import io

    from latbench_lookup import LookupRegressor

    save_predictor(tmp_path / "ridge", fit(profile, "ridge"))
    archive = io.dumps(LookupRegressor())
    rewrite(tmp_path / "ridge", lambda header, arrays: arrays.update(skops=np.frombuffer(archive, dtype=np.uint8)))
    with pytest.raises(PredictorFileError, match=r"is refused: it holds latbench_lookup\.LookupRegressor"):
        load_predictor(tmp_path / "ridge")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.data())
def test_damage_never_surfaces_as_anything_but_a_message(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    damaged = path.with_suffix(".damaged")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged.write_bytes(content)
    try:
        assert np.asarray(load_predictor(damaged).estimator.coef_).shape == (30,)
    except UsageError:
        return


def test_a_full_disk_leaves_the_old_file(
    path: Path, trained: TrainedPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(PredictorFileError, match="No space left on device: choose another place"):
        save_predictor(path, trained)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, trained: TrainedPredictor) -> None:
    with pytest.raises(PredictorFileError, match="No such file or directory"):
        save_predictor(tmp_path / "missing" / "predictor", trained)


def test_a_keyword_that_is_no_plain_value_is_refused(profile: Profile) -> None:
    with pytest.raises(PredictorFileError, match="plain numbers"):
        fit(profile, "mlp", steps=1, random_state=np.random.RandomState(0))


def test_a_pipeline_that_does_not_tell_its_columns_comes_back(tmp_path: Path, profile: Profile) -> None:
    steps = [("as it is", "passthrough"), ("line", Ridge())]
    trained = fit(profile, "sklearn.pipeline:Pipeline", steps=steps)
    save_predictor(tmp_path / "pipeline", trained)
    again = load_predictor(tmp_path / "pipeline", profile.space)
    np.testing.assert_array_equal(again.predict(profile.X), trained.predict(profile.X))

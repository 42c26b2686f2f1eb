"""Predictor files: what is written is read back, and whatever else is in a file is refused in words."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.gaussian_process.kernels import RBF, Matern, WhiteKernel
from sklearn.linear_model import BayesianRidge, Ridge
from sklearn.preprocessing import MinMaxScaler, RobustScaler
from sklearn.tree import ExtraTreeRegressor

from latbench.errors import PredictorFileError, UsageError
from latbench.prediction.file import load_predictor, save_predictor
from latbench.prediction.fit import fit
from latbench.prediction.sklearn.standardised_labels import StandardisedLabels
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


KERNEL = 1.5 * Matern(length_scale=[2.0] * 30, nu=2.5) + WhiteKernel(0.1)
SCIKIT_LEARN = {
    "sklearn.ensemble:RandomForestRegressor": {"n_estimators": 10},
    "sklearn.ensemble:ExtraTreesRegressor": {"n_estimators": 10, "max_leaf_nodes": 8},
    "sklearn.ensemble:GradientBoostingRegressor": {"n_estimators": 10},
    "sklearn.tree:DecisionTreeRegressor": {},
    "sklearn.gaussian_process:GaussianProcessRegressor": {"kernel": KERNEL, "alpha": 1e-6, "optimizer": None},
    "sklearn.linear_model:BayesianRidge": {},
    "sklearn.linear_model:LassoCV": {"cv": 3},
    "sklearn.linear_model:LinearRegression": {"positive": True},
    "sklearn.pipeline:Pipeline": {
        "steps": [("scale", RobustScaler()), ("none", None), ("trees", ExtraTreeRegressor())]
    },
}


@pytest.mark.parametrize("name", SCIKIT_LEARN)
def test_regressors_of_scikit_learn_come_back(tmp_path: Path, profile: Profile, name: str) -> None:
    trained = fit(profile, name, **SCIKIT_LEARN[name])
    save_predictor(tmp_path / "predictor", trained)
    again = load_predictor(tmp_path / "predictor", profile.space)
    X = np.vstack([profile.X, profile.X.reshape(20, 2, -1).mean(axis=1)])
    np.testing.assert_allclose(again.predict(X), trained.predict(X), rtol=1e-13)
    lists = str.maketrans("[]", "()")  # JSON does not tell a list from a tuple, and it comes back as one
    assert str(again.estimator).translate(lists) == str(trained.estimator).translate(lists)
    save_predictor(tmp_path / "again", again)
    np.testing.assert_array_equal(load_predictor(tmp_path / "again").predict(X), again.predict(X))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("sklearn.linear_model:BayesianRidge", {}),
        (
            "sklearn.gaussian_process:GaussianProcessRegressor",
            {"kernel": RBF(5.0) + WhiteKernel(0.04), "optimizer": None},
        ),
        ("sklearn.pipeline:Pipeline", {"steps": [("scale", MinMaxScaler()), ("line", BayesianRidge())]}),
    ],
)
def test_standard_deviations_come_back(tmp_path: Path, name: str, params: dict[str, Any]) -> None:
    profile, test = additive_profile(60, noise=0.05), additive_profile(200, seed=1, noise=0.05)
    trained = fit(profile, name, **params)
    values, std = trained.predict(test.X, return_std=True)
    np.testing.assert_array_equal(values, trained.predict(test.X))
    assert (np.abs(values - test.y) < 2 * std).mean() > 0.85
    assert std.max() < np.std(test.y)
    save_predictor(tmp_path / "predictor", trained)
    again = load_predictor(tmp_path / "predictor").predict(test.X, return_std=True)
    np.testing.assert_allclose(again, (values, std), rtol=1e-9)


def test_another_space_is_refused_by_both_names(path: Path) -> None:
    other = SpaceSpec("nasbench201", {"channels": 8}).create()
    with pytest.raises(PredictorFileError) as error:
        load_predictor(path, other)
    assert str(SpaceSpec.of(additive_profile(1).space)) in str(error.value)
    assert str(SpaceSpec.of(other)) in str(error.value)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PredictorFileError, match="not a predictor file, or is truncated"):
        load_predictor(path)


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04" * 30, b"text\n" * 30, save({"a": np.ones(3)}), save({}, {"latbench": "[]"})]
)
def test_a_foreign_file_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(PredictorFileError, match="not a predictor file"):
        load_predictor(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictorFileError, match="No such file"):
        load_predictor(tmp_path / "missing")
    with pytest.raises(PredictorFileError, match="directory"):
        load_predictor(tmp_path)


CHANGES = {
    "format 99, this version reads 2": lambda header, arrays: header.update(format=99),
    "damaged header": lambda header, arrays: header.pop("conditions"),
    "space 'nowhere', which is not installed here": lambda header, arrays: header["space"].update(name="nowhere"),
    "predictor 'mpl', which is not installed": lambda header, arrays: header.update(plugin="mpl"),
    "holds no state of predictor 'lookup'": lambda header, arrays: arrays.pop("coef"),
    "holds no state of predictor 'mlp'": lambda header, arrays: header.update(plugin="mlp", params={}),
    "holds no state of predictor 'ridge'": lambda header, arrays: header.update(plugin="ridge", params={}),
    "predicts from 5 columns": lambda header, arrays: arrays.update(coef=np.ones(5)),
    "'lookup' \\('kind'\\)": lambda header, arrays: header.update(state="sklearn"),
    "column 4 was 'wide' and is": lambda header, arrays: header["columns"].__setitem__(3, "wide"),
    "column 30 was 'nothing' and is": lambda header, arrays: header["columns"].pop(),
    "written by an older latbench: .*latbench fit STORE --predictor lookup": lambda header, arrays: header.update(
        format=1
    ),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_file_that_contradicts_itself_is_refused(path: Path, message: str) -> None:
    rewrite(path, CHANGES[message])
    with pytest.raises(PredictorFileError, match=message):
        load_predictor(path)


def test_an_edited_space_is_refused_by_the_first_column_that_differs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit that leaves the width alone, kernels 3/5/7 to 3/5/9, would predict something else without a word."""
    space = additive_profile(1).space
    edited = tuple(
        dataclasses.replace(column, name=column.name.replace("nor_conv_3x3", "nor_conv_5x5"))
        for column in space.columns
    )
    monkeypatch.setattr(type(space), "columns", edited)
    for asked in (None, SpaceSpec.of(space).create()):
        with pytest.raises(PredictorFileError, match=r"column \d+ was '.*nor_conv_3x3' and is '.*nor_conv_5x5' here"):
            load_predictor(path, asked)


@pytest.mark.parametrize("name", ["trap:bait", "trap:Space", "trap:number"])
def test_a_file_calls_nothing_but_what_it_must_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "trap.py").write_text(
        "import pathlib\nnumber = 3\ndef bait(**config): pathlib.Path(__file__).with_name('called').touch()\n"
        "class Space:\n    def __init__(self): bait()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    rewrite(path, lambda header, arrays: header.update(plugin=name, params={}))
    with pytest.raises(UsageError, match=rf"'{name}' is .*not a (class|predictor)"):
        load_predictor(path)
    rewrite(path, lambda header, arrays: header["space"].update(name=name, config={}))
    with pytest.raises(UsageError, match=rf"'{name}' is .*not a (class|space)"):
        load_predictor(path)
    assert not (tmp_path / "called").exists()


def test_a_class_that_is_not_registered_comes_back(tmp_path: Path, profile: Profile) -> None:
    trained = fit(profile, "latbench_lookup:LookupRegressor")
    save_predictor(tmp_path / "own", trained)
    np.testing.assert_array_equal(load_predictor(tmp_path / "own").predict(profile.X), trained.predict(profile.X))


def test_types_that_only_pickle_could_restore_are_refused(tmp_path: Path, profile: Profile) -> None:
    from lightgbm import LGBMRegressor

    estimator = LGBMRegressor(n_estimators=2, verbose=-1).fit(profile.X, profile.y)
    for inner in (estimator, StandardisedLabels(estimator)):
        trained = TrainedPredictor(inner, "lightgbm:LGBMRegressor", profile.space, profile.conditions, {})
        with pytest.raises(PredictorFileError, match=r"LGBMRegressor cannot be kept in a file.*to_arrays"):
            save_predictor(tmp_path / "lightgbm", trained)
    bare = TrainedPredictor(Ridge().fit(profile.X, profile.y), "ridge", profile.space, profile.conditions, {})
    with pytest.raises(PredictorFileError, match=r"bare Ridge.*fit it with latbench\.fit"):
        save_predictor(tmp_path / "ridge", bare)
    assert not list(tmp_path.iterdir())
    with pytest.raises(PredictorFileError, match="LGBMRegressor"):
        fit(profile, "lightgbm:LGBMRegressor", n_estimators=2, verbose=-1)


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
    with pytest.raises(PredictorFileError, match="No space left on device: choose another file"):
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

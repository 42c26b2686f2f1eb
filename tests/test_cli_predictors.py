"""`fit`, `compare` and `predict`: classes of one's own, standard deviations, other devices, impossible predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from latbench import cli
from latbench.records.figures import figures
from latbench.space import SpaceSpec

SPACE = ["--space", "nasbench201", "-S", "cells=1", "-S", "channels=4", "-S", "image=8"]
NULL = ["--backend", "latbench.testing:NullBackend", "-O", "noise=0.01", "--verify", "none"]
TEXTS = [str(a) for a in SpaceSpec("nasbench201", {"cells": 1, "channels": 4, "image": 8}).create().sample(2, seed=3)]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def document(*arguments: object) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "null.db"
    assert call("profile", *SPACE, *NULL, "--samples", 24, "--store", path).exit_code == 0
    return path


def test_a_class_that_is_not_registered_is_fitted_and_read_back(store: Path, tmp_path: Path) -> None:
    for name in ("sklearn.linear_model:BayesianRidge", "latbench_mlp:MlpRegressor"):
        path = tmp_path / "own.safetensors"
        assert document("fit", store, "--predictor", name, "--out", path)["plugin"] == name
        assert all(row["value"] > 0 for row in document("predict", path, *TEXTS)["predictions"])


def test_the_standard_deviation_is_printed_where_it_is_known(store: Path, tmp_path: Path) -> None:
    path, ridge = tmp_path / "bayesian.safetensors", tmp_path / "ridge.safetensors"
    assert call("fit", store, "--predictor", "sklearn.linear_model:BayesianRidge", "--out", path).exit_code == 0
    rows = document("predict", path, *TEXTS, "--std")["predictions"]
    assert all(0 < row["std"] < row["value"] for row in rows)
    lines = call("predict", path, *TEXTS, "--std").stdout.splitlines()
    assert lines[0].startswith(f"{figures(rows[0]['value'])} ± {figures(rows[0]['std'])} ms  ")
    assert "std" not in document("predict", path, *TEXTS)["predictions"][0]
    assert call("fit", store, "--predictor", "ridge", "--out", ridge).exit_code == 0
    result = call("predict", ridge, *TEXTS, "--std")
    assert result.exit_code == 2
    assert "'ridge' gives no standard deviations: use 'sklearn.linear_model:BayesianRidge'" in " ".join(
        result.stderr.split()
    )


def test_stores_of_other_devices_are_sources(store: Path, tmp_path: Path) -> None:
    other, transfer = tmp_path / "other.db", "latbench_transfer:TransferRegressor"
    assert call("profile", *SPACE, *NULL, "--samples", 18, "--store", other).exit_code == 0
    said = document(
        "fit", store, "--predictor", transfer, "--samples", 10, "--sources", other, "--sources", other,
        "--out", tmp_path / "transfer.safetensors",
    )  # fmt: skip
    assert said["facts"]["sources"].count("(latbench.testing:NullBackend)") == 2
    said = document(
        "compare", store, "--predictors", f"ridge,{transfer}", "--train", 8, "--seeds", 2, "--sources", other
    )
    errors = {row["predictor"]: row["mean"]["mape"] for row in said["rows"]}
    assert errors[transfer] < errors["ridge"]
    result = call("fit", store, "--predictor", "ridge", "--sources", other)
    assert result.exit_code == 2
    assert "does not learn from other devices' profiles" in " ".join(result.stderr.split())


def test_comparing_without_an_operator_table_says_what_is_left_out(store: Path) -> None:
    said = document("compare", store, "--train", 12, "--seeds", 1)
    assert "lookup" not in {row["predictor"] for row in said["rows"]}
    assert any("lookup is left out" in note and "latbench profile --operators" in note for note in said["notes"])
    result = call("compare", store, "--predictors", "lookup", "--train", 12)
    assert result.exit_code == 2
    assert "'lookup' cannot be compared" in " ".join(result.stderr.split())


def test_a_prediction_that_nothing_takes_is_refused(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ridge.safetensors"
    assert call("fit", store, "--predictor", "ridge", "--out", path).exit_code == 0
    from latbench.prediction.sklearn.standardised_labels import StandardisedLabels

    for value, words in ((-0.25, "architecture 2: "), (float("nan"), f"not a number for {TEXTS[1]}")):
        monkeypatch.setattr(StandardisedLabels, "predict", lambda self, X, value=value: [0.5, value])
        result = call("predict", path, *TEXTS)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in " ".join(result.stderr.split())

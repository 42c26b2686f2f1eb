"""Predictors side by side."""

import json
from dataclasses import replace

import pytest

from latbench.errors import DataError
from latbench.prediction.evaluation.comparison import compare
from latbench.testing.additive_profile import additive_profile


def test_every_error_stands_beside_the_baseline_and_the_floor() -> None:
    comparison = compare(
        additive_profile(200, noise=0.02, duplicates=60), ["ridge", "lookup"], train_sizes=(100, 20), seeds=3
    )
    assert [(row.train_size, row.predictor) for row in comparison.rows] == [
        (size, name) for size in (20, 100) for name in ("constant", "ridge", "lookup")
    ]
    errors = {(row.train_size, row.predictor): row.mean.mape for row in comparison.rows}
    assert comparison.noise_floor.mape is not None
    assert comparison.noise_floor.mape < errors[100, "ridge"] < errors[20, "ridge"] < errors[20, "constant"]
    assert (comparison.test_size > 40, comparison.seeds) == (True, 3)
    assert all("without a live path" in note for note in comparison.notes)
    heads, rows = comparison.table()
    assert all(len(row) == len(heads) for row in rows)
    assert {row[heads.index("noise floor")] for row in rows} == {f"{comparison.noise_floor.mape:.1%}"}


def test_every_predictor_sees_the_same_splits() -> None:
    profile = additive_profile(60, noise=0.02)
    both = compare(profile, ["lookup", "ridge"], train_sizes=(40,), seeds=2).rows[2]
    alone = compare(profile, ["ridge"], train_sizes=(40,), seeds=2).rows[1]
    assert (both.mean, both.spread, both.by_latency) == (alone.mean, alone.spread, alone.by_latency)


def test_what_weakens_the_numbers_is_noted() -> None:
    notes = "\n".join(compare(additive_profile(30, with_operations=False), ["ridge"], train_sizes=(20,), seeds=1).notes)
    assert "only 7 test architectures" in notes
    assert "noise floor is unknown" in notes
    assert "operator table" in notes


def test_a_predictor_that_beats_a_perfect_one_is_noted() -> None:
    profile = additive_profile(80, duplicates=20)
    doubled = [replace(m, value=2 * m.value, high=2 * m.high) if m.replicate else m for m in profile.measurements]
    notes = compare(replace(profile, measurements=tuple(doubled)), ["lookup"], train_sizes=(40,), seeds=2).notes
    (note,) = [note for note in notes if "perfect predictor" in note]
    assert "lookup" in note.partition(":")[0]
    assert "49.0" in note
    honest = additive_profile(150, noise=0.02, duplicates=60)
    assert not any("perfect" in note for note in compare(honest, ["ridge"], train_sizes=(50,), seeds=2).notes)


def test_json_has_no_nan() -> None:
    document = compare(additive_profile(30), ["ridge"], train_sizes=(20,), seeds=1).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["rows"][0]["mean"]["spearman"] is None
    assert document["rows"][1]["spread"]["mape"] is None


def test_too_small_a_profile_is_refused() -> None:
    with pytest.raises(DataError, match="30 architectures of 27 structures cannot give 100"):
        compare(additive_profile(30), ["ridge"])
    with pytest.raises(DataError, match="0 seeds"):
        compare(additive_profile(30), ["ridge"], seeds=0)

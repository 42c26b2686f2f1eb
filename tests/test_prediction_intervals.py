"""Intervals hold what they say, and what lies outside of the labels is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latbench.errors import UsageError
from latbench.prediction.file import load_predictor, save_predictor
from latbench.prediction.fit import fit
from latbench.prediction.intervals import half_width
from latbench.predictor import KnowsItsErrors
from latbench.testing.additive_profile import additive_profile
from tests.test_cli import call


@pytest.mark.parametrize("predictor", ["additive", "mlp", "stack", "gbdt", "ridge"])
def test_intervals_hold_what_they_say(predictor: str, tmp_path: Path) -> None:
    trained = fit(additive_profile(80, noise=0.05), predictor)
    test = additive_profile(500, seed=1, noise=0.05)
    for level in (0.5, 0.9):
        low, high = trained.interval(test.X, level=level)
        held = ((test.y >= low) & (test.y <= high)).mean()
        assert held == pytest.approx(level, abs=0.13 if level < 0.9 else 0.07)
    save_predictor(tmp_path / "a.safetensors", trained)
    again = load_predictor(tmp_path / "a.safetensors").interval(test.X[:3])
    np.testing.assert_array_equal(again, trained.interval(test.X[:3]))


def test_what_knows_its_errors_errs_as_on_other_architectures() -> None:
    profile, test = additive_profile(150, noise=0.05), additive_profile(500, seed=1, noise=0.05)
    for predictor in ("additive", "mlp", "stack"):
        trained = fit(profile, predictor)
        assert isinstance(trained.estimator, KnowsItsErrors)
        told = np.median(np.abs(trained.estimator.left_out_))
        assert told == pytest.approx(np.median(np.abs(test.y / trained.predict(test.X) - 1)), rel=0.25)


def test_too_few_errors_for_a_level_and_no_levels_are_refused() -> None:
    errors = np.array([0.1, 0.2, 0.3, 0.4])
    assert half_width(errors, 0.6) == 0.3
    with pytest.raises(UsageError, match="needs at least 9 architectures to learn from, not 4"):
        half_width(errors, 0.9)
    with pytest.raises(UsageError, match="is no share"):
        half_width(errors, 90)
    with pytest.raises(UsageError, match="does not know how it errs"):
        half_width(np.empty(0), 0.5)
    with pytest.raises(UsageError, match="has no end"):
        half_width(np.array([0.1, 0.1, np.inf]), 0.75)


def test_what_lies_outside_of_the_labels_is_told(tmp_path: Path) -> None:
    profile = additive_profile(60)
    slow = np.argsort(profile.y)[-10:]
    kept = {profile.first[row].subject for row in range(60) if row not in slow}

    trained = fit(
        replace(profile, measurements=tuple(m for m in profile.measurements if m.subject in kept)), "additive"
    )
    texts = [profile.first[row].subject for row in (slow[-1], np.argsort(profile.y)[30])]
    assert trained.extrapolates(texts).tolist() == [True, False]
    path = tmp_path / "a.safetensors"
    save_predictor(path, trained)
    result = call("predict", path, *texts, "--interval", "0.8")
    assert result.exit_code == 0, result.output
    assert "1 of 2 predictions lie outside of what was measured" in result.stderr
    assert result.stdout.count("[") == 2
    rows = json.loads(call("predict", path, *texts, "--interval", "0.8", "--json").stdout)["predictions"]
    assert [row["extrapolates"] for row in rows] == [True, False]
    assert all(row["low"] < row["value"] < row["high"] for row in rows)
    result = call("predict", path, *texts, "--interval", "0.999")
    assert result.exit_code == 2
    assert "needs at least 999 architectures" in " ".join(result.stderr.split())

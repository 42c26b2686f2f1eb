"""``latbench compare-runs``: the verdicts, their intervals, and what is not comparable."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from latbench import cli
from latbench.backend import Device
from latbench.errors import DataError, UsageError
from latbench.measure.one_model.inspection import Inspection
from latbench.measure.one_model.record import ModelRecord, write_records
from latbench.records.measurement import Conditions, Measurement
from latbench.records.profile import Profile
from latbench.runs import Entry, Run, compare_runs, profile_run
from latbench.runs.verdict import Interval, Ratio, mean_ratio, ratio
from latbench.space import SpaceSpec
from latbench.store import Identity, Store
from latbench.testing.additive_profile import additive_profile

CONDITIONS = Conditions(
    "latency", "ms", "wall", "warm", "cpu", Device("chip", "cpu", {"torch": "2.13"}), "fp32", threads=1, batch=1
)
SWAPPED = {"SAME": "SAME", "UNCLEAR": "UNCLEAR", "FASTER": "SLOWER", "SLOWER": "FASTER"}


def interval(value: float, half_width: float = 0.003) -> Interval:
    return Interval(value, value / (1 + half_width), value * (1 + half_width))


def entry(value: float, subject: str = "net", **conditions: Any) -> Entry:
    return Entry(subject, replace(CONDITIONS, **conditions), interval(value), {"inputs": "x:1x3"})


def run(*entries: Entry, name: str = "a.json") -> Run:
    return Run(name, entries)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["compare-runs", *map(str, arguments)])


def records(path: Path, value: float, subject: str = "net", **conditions: Any) -> Path:
    measurement = Measurement(subject, "model", value, value * 0.997, value * 1.003)
    record = ModelRecord({"x": "1x3:float32"}, replace(CONDITIONS, **conditions), measurement, Inspection({}, 0))
    write_records(path, [record])
    return path


def store(path: Path, profile: Profile) -> Path:
    conditions = profile.conditions
    names = ("backend", "precision", "threads", "batch", "cache", "options")
    identity = Identity(SpaceSpec.of(profile.space), **{name: getattr(conditions, name) for name in names})
    with Store(path, identity) as opened:
        opened.add(conditions, [replace(m, session="one") for m in profile.measurements])
    return path


def slower(profile: Profile, factor: float) -> Profile:
    scaled = (
        replace(m, value=m.value * factor, low=m.low * factor, high=m.high * factor) for m in profile.measurements
    )
    return replace(profile, measurements=tuple(scaled))


# Verdicts


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.995, 1.0, 1.005, "SAME"),
        (1.001, 1.003, 1.005, "SAME"),  # sure, and too small to matter
        (0.90, 0.95, 0.999, "FASTER"),
        (1.001, 1.05, 1.10, "SLOWER"),
        (0.90, 1.0, 1.10, "UNCLEAR"),
        (0.98, 0.995, 0.999, "UNCLEAR"),  # sure, and maybe too small to matter
        (0.90, 0.95, 1.001, "UNCLEAR"),
        (0.0, 0.5, 0.9, "FASTER"),
    ],
)
def test_a_verdict_follows_from_the_interval(low: float, value: float, high: float, verdict: str) -> None:
    ratio = Ratio(value, low, high)
    assert ratio.verdict(tolerance=0.01) == verdict
    of_energy = {"FASTER": "LESS", "SLOWER": "MORE"}.get(verdict, verdict)
    assert ratio.verdict(tolerance=0.01, quantity="energy") == of_energy


logs = st.floats(-0.2, 0.2)


@given(a=logs, b=logs, widths=st.tuples(*[st.floats(0, 0.1)] * 4), tolerance=st.floats(0, 0.1))
def test_exchanging_the_runs_exchanges_faster_and_slower(
    a: float, b: float, widths: tuple[float, ...], tolerance: float
) -> None:
    left = Interval(np.exp(a), np.exp(a - widths[0]), np.exp(a + widths[1]))
    right = Interval(np.exp(b), np.exp(b - widths[2]), np.exp(b + widths[3]))
    there, back = ratio(left, right), ratio(right, left)
    assert there.value == pytest.approx(1 / back.value)
    assert (there.low, there.high) == pytest.approx((1 / back.high, 1 / back.low))
    edges = (1, 1 + tolerance, 1 / (1 + tolerance))
    if all(abs(x - edge) > 1e-9 for x in (there.value, there.low, there.high) for edge in edges):
        assert back.verdict(tolerance) == SWAPPED[there.verdict(tolerance)]


def test_widths_of_independent_values_add_in_quadrature() -> None:
    both = ratio(Interval(1.0, np.exp(-0.03), np.exp(0.03)), Interval(2.0, 2 * np.exp(-0.04), 2 * np.exp(0.04)))
    assert (both.low, both.value, both.high) == pytest.approx((2 * np.exp(-0.05), 2, 2 * np.exp(0.05)))


def test_an_interval_down_to_zero_is_no_information() -> None:
    assert ratio(Interval(1.0, 0.0, 1.1), interval(0.5)).verdict() == "UNCLEAR"
    with pytest.raises(DataError, match="values must be positive"):
        ratio(Interval(0.0, 0.0, 0.1), interval(1.0))


def test_the_mean_of_ratios_has_an_interval_that_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = []
    for values in np.exp(rng.normal(0.05, 0.1, size=(1000, 12))):
        mean = mean_ratio([Ratio(v, v, v) for v in values], common_error=0.0)
        held.append(mean.low <= np.exp(0.05) <= mean.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)
    wide = mean_ratio([Ratio(1.0, 1.0, 1.0)] * 12, common_error=0.1)
    assert (wide.low, wide.high) == pytest.approx((np.exp(-0.196), np.exp(0.196)))
    assert mean_ratio([Ratio(1.0, 0.9, 1.2)], common_error=0.1) == Ratio(1.0, 0.9, 1.2)


# Runs


def test_backends_are_held_against_themselves_and_what_is_missing_is_named() -> None:
    a = run(entry(1.0), entry(5.0, backend="onnxruntime"), entry(1.0, "old"))
    b = run(entry(5.5, backend="onnxruntime"), entry(0.9), entry(1.0, "new"))
    compared = compare_runs(a, b)
    answers = {row.a.conditions.backend: row.ratio.verdict() for row in compared.rows if row.ratio}
    assert answers == {"cpu": "FASTER", "onnxruntime": "SLOWER"}
    assert (compared.only_a, compared.only_b, compared.mean) == (("old",), ("new",), None)


def test_what_differs_is_named_with_both_values_unless_it_is_ignored() -> None:
    a, b = run(entry(1.0)), run(entry(1.0, threads=2, device=Device("chip", "cpu", {"torch": "2.14"})))
    with pytest.raises(UsageError, match=r"fields threads \(1, 2\), device.torch \(2.13, 2.14\): .*--ignore threads"):
        compare_runs(a, b)
    assert compare_runs(a, b, ignore=["threads", "device"]).rows[0].ratio is not None
    assert compare_runs(a, b, ignore=["threads", "device.torch"]).rows[0].ratio is not None
    with pytest.raises(UsageError, match=r"field threads \(1, 2\)"):
        compare_runs(a, b, ignore=["device"])


def test_other_inputs_are_not_comparable() -> None:
    other = replace(entry(1.0), more={"inputs": "x:8x3"})
    with pytest.raises(UsageError, match=r"not comparable: field inputs \(x:1x3, x:8x3\)"):
        compare_runs(run(entry(1.0)), run(other))


def test_one_comparable_subject_is_enough_for_an_answer() -> None:
    a = run(entry(1.0), entry(1.0, "other"))
    b = run(entry(1.0), entry(1.0, "other", threads=2))
    first, second = compare_runs(a, b).rows
    assert first.ratio is not None
    assert (second.ratio, second.why_not()) == (None, "not comparable: field threads (1, 2)")


def test_other_subjects_and_backends_are_held_against_each_other_on_request() -> None:
    a, b = run(entry(1.0, "before")), run(entry(1.2, "after", backend="onnxruntime"), name="b.json")
    with pytest.raises(UsageError, match=r"a.json holds 'before', b.json holds 'after'; --ignore subject"):
        compare_runs(a, b)
    same_subject = run(entry(1.2, "before", backend="onnxruntime"))
    with pytest.raises(UsageError, match=r"field backend \(cpu in A, onnxruntime in B\): .*--ignore backend"):
        compare_runs(a, same_subject)
    (row,) = compare_runs(a, b, ignore=["subject", "backend"]).rows
    assert row.ratio is not None
    assert row.ratio.verdict() == "SLOWER"
    several = run(entry(1.0), entry(1.0, backend="onnxruntime"))
    with pytest.raises(UsageError, match="several of 'net' once backend is ignored"):
        compare_runs(several, several, ignore=["backend"])


def test_a_field_that_does_not_exist_is_not_ignored_silently() -> None:
    with pytest.raises(UsageError, match="no field named 'thread': did you mean 'threads'"):
        compare_runs(run(entry(1.0)), run(entry(1.0)), ignore=["thread"])
    with pytest.raises(UsageError, match="holds no measurement"):
        compare_runs(run(entry(1.0)), run())


# Profiles


def test_profiles_are_compared_by_their_mean_ratio() -> None:
    before = additive_profile(60, noise=0.01)
    after = slower(additive_profile(60, noise=0.01, seed=0), 1.05)
    same = compare_runs(profile_run(before, "a"), profile_run(before, "b"))
    assert same.mean is not None
    assert same.mean.verdict() == "SAME"
    compared = compare_runs(profile_run(before, "a"), profile_run(after, "b"))
    assert compared.mean is not None
    assert compared.mean.low <= 1.05 <= compared.mean.high
    assert compared.mean.verdict() == "SLOWER"
    assert len(compared.rows) == 60


def test_the_drift_between_sessions_of_a_profile_widens_the_interval() -> None:
    profile = additive_profile(40)

    def with_references(*references: float) -> Profile:
        rows = [
            replace(m, session=str(i % len(references)), reference=references[i % len(references)])
            for i, m in enumerate(profile.measurements)
        ]
        return replace(profile, measurements=tuple(rows))

    steady, moving = with_references(1.0, 1.001, 0.999, 1.0), with_references(1.0, 1.1, 0.9, 1.0)
    assert profile_run(steady, "a").common_error < 0.001
    assert profile_run(moving, "a").common_error > 0.03
    assert profile_run(profile, "a").common_error == 0
    compared = compare_runs(profile_run(moving, "a"), profile_run(moving, "b"))
    mean = compared.mean
    assert mean is not None
    assert mean.verdict() == "UNCLEAR"
    assert {row.ratio.verdict() for row in compared.rows if row.ratio} == {"UNCLEAR"}


# The command


def test_records_are_compared_on_the_command_line(tmp_path: Path) -> None:
    a, b = records(tmp_path / "a.json", 1.0), records(tmp_path / "b.json", 0.9)
    result = call(a, b)
    assert result.exit_code == 0
    assert re.search(r"net +cpu +1 ms +0\.9 ms +-10\.0% +-11\.8% to -8\.2% +FASTER", result.stdout)
    document = json.loads(call(a, b, "--json").stdout)
    assert document["rows"][0]["ratio"]["verdict"] == "FASTER"
    assert "SAME" in call(a, b, "--tolerance", "0.2").stdout


def test_what_is_not_comparable_exits_with_2_and_names_the_fields(tmp_path: Path) -> None:
    a, b = records(tmp_path / "a.json", 1.0), records(tmp_path / "b.json", 1.0, precision="fp16")
    result = call(a, b)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "not comparable: field precision (fp32, fp16)" in re.sub(r"\s+", " ", result.stderr)
    assert call(a, b, "--ignore", "precision").exit_code == 0


def test_stores_are_summarised_with_the_most_different(tmp_path: Path) -> None:
    before = additive_profile(30, noise=0.002)
    odd = before.first[7]
    doubled = replace(odd, value=2 * odd.value, low=0, high=3 * odd.value)
    rows = tuple(doubled if m is odd else m for m in before.measurements)
    a, b = store(tmp_path / "a.db", before), store(tmp_path / "b.db", replace(before, measurements=rows))
    result = call(a, b, "--tolerance", "0.1")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert re.search(r"the geometric mean over 30 common architectures", result.stdout)
    assert "29 SAME, 1 UNCLEAR" in result.stdout
    assert sum("null" in line for line in lines) == 10
    assert "+100.0%" in next(line for line in lines if "null" in line)
    document = json.loads(call(a, b, "--json").stdout)
    assert len(document["rows"]) == 30


def test_a_store_of_another_space_is_not_comparable(tmp_path: Path) -> None:
    before = additive_profile(3)
    other = replace(before, space=SpaceSpec("nasbench201", {"cells": 1}).create())
    result = call(store(tmp_path / "a.db", before), store(tmp_path / "b.db", other))
    assert result.exit_code == 2
    assert "field space" in re.sub(r"\s+", " ", result.stderr)


def test_files_that_are_no_runs_are_refused(tmp_path: Path) -> None:
    a = records(tmp_path / "a.json", 1.0)
    (tmp_path / "b.json").write_text("{}")
    for other, message in (("b.json", "no records of latbench"), ("c.json", "cannot read"), ("c.db", "no store at")):
        result = call(a, tmp_path / other)
        assert result.exit_code == 2
        assert message in re.sub(r"\s+", " ", result.stderr)

"""``latbench compare-runs`` as a gate: relative to what was measured in the same sessions, and by its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from latbench import cli
from latbench.errors import UsageError
from latbench.records.measurement import Measurement
from latbench.records.profile import Profile
from latbench.runs import (
    Entry,
    Run,
    compare_runs,
    profile_run,
    read_run,
    relative_to_anchor,
    relative_to_references,
)
from latbench.testing.additive_profile import additive_profile
from tests.test_compare_runs import CONDITIONS, interval, records, store

PLAIN = additive_profile(12)
PAIRS = 100


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["compare-runs", *map(str, arguments)])


def moving(seed: int, factor: float = 1.0, *, level: float = 0.1, noise: float = 0.003) -> Profile:
    """Return a profile of four sessions whose machine is faster in one and slower in another."""
    rng = np.random.default_rng(seed)
    levels = np.exp(level * rng.standard_normal(4))
    references = levels * np.exp(noise / 2 * rng.standard_normal(4))

    def measured(index: int, m: Measurement) -> Measurement:
        value = m.value * factor * levels[index % 4] * np.exp(noise * rng.standard_normal())
        ends = {"value": value, "low": value * 0.99, "high": value * 1.01}
        return replace(m, session=f"{seed}.{index % 4}", reference=float(references[index % 4]), **ends)

    rows = tuple(measured(index, m) for index, m in enumerate(PLAIN.first))
    return replace(PLAIN, measurements=rows)


def in_turns(seed: int, factor: float = 1.0, *, level: float = 0.1, noise: float = 0.02) -> Run:
    """Return a model on two backends, in five sessions of 24 visits each whose machine differs."""
    rng = np.random.default_rng(seed)
    levels = np.repeat(np.exp(level * rng.standard_normal(5)), 24)
    entries = []
    for backend, ms in (("steady", 1.0), ("changed", 3.0 * factor)):
        blocks = ms * levels * np.exp(noise * np.abs(rng.standard_normal(120)))
        value = float(np.median(blocks))
        told: dict[str, Any] = {"session": str(seed), "blocks": tuple(blocks.tolist())}
        conditions = replace(CONDITIONS, backend=backend)
        entries.append(Entry("net", conditions, interval(value, 0.15), {"inputs": "x:1x3"}, **told))
    return Run(f"{seed}.json", tuple(entries))


def profiles(seed: int, factor: float = 1.0) -> Run:
    return relative_to_references(profile_run(moving(seed, factor), f"{seed}.db"))


def anchored(seed: int, factor: float = 1.0) -> Run:
    return relative_to_anchor(in_turns(seed, factor), "steady")


@pytest.mark.parametrize("measure", [profiles, anchored])
def test_a_change_of_2_percent_is_found_though_the_machine_moves_by_10(measure: Any) -> None:
    def verdicts(factor: float) -> list[str]:
        found = []
        for seed in range(PAIRS):
            compared = compare_runs(measure(seed), measure(1000 + seed, factor))
            ratio = compared.mean or compared.rows[0].ratio
            assert ratio is not None
            found.append(ratio.verdict())
        return found

    equal, slower = verdicts(1.0), verdicts(1.02)
    assert sum(verdict in ("SLOWER", "FASTER") for verdict in equal) <= 0.05 * PAIRS
    assert equal.count("UNCLEAR") <= 0.05 * PAIRS
    assert slower.count("SLOWER") >= 0.9 * PAIRS


def test_what_disturbs_a_part_of_a_run_hides_no_change() -> None:
    def disturbed(seed: int, factor: float = 1.0) -> Run:
        run = in_turns(seed, factor)
        early, *others = run.entries
        hit = replace(early, blocks=(*(1.2 * ms for ms in early.blocks[:12]), *early.blocks[12:]))
        return relative_to_anchor(replace(run, entries=(hit, *others)), "steady")

    verdicts = {
        factor: [
            compare_runs(anchored(seed), disturbed(seed + PAIRS, factor)).rows[0].ratio.verdict()  # type: ignore[union-attr]
            for seed in range(PAIRS)
        ]
        for factor in (1.0, 1.02)
    }
    assert not {"SLOWER", "FASTER"} & set(verdicts[1.0])
    assert verdicts[1.02].count("SLOWER") >= 0.9 * PAIRS


def test_what_is_unclear_by_itself_is_the_same_relative_to_the_references() -> None:
    a, b = profile_run(moving(0), "a.db"), profile_run(moving(1, level=0.1), "b.db")
    absolute = compare_runs(a, b)
    assert absolute.mean is not None
    assert absolute.references is not None
    assert absolute.mean.verdict() == "UNCLEAR"
    relative = compare_runs(relative_to_references(a), relative_to_references(b))
    assert relative.mean is not None
    assert relative.mean.verdict() == "SAME"


def test_an_anchor_of_other_sessions_adds_its_error() -> None:
    a = in_turns(0)
    apart = replace(a, entries=tuple(replace(entry, session=str(i)) for i, entry in enumerate(a.entries)))
    (entry,) = relative_to_anchor(apart, "steady").entries
    ends = entry.interval
    assert (ends.high / ends.value, ends.value / ends.low) == pytest.approx((np.exp(np.log(1.15) * 2**0.5),) * 2)
    (in_one,) = relative_to_anchor(a, "steady").entries
    assert in_one.interval.high / in_one.interval.value < 1.02


def test_an_anchor_that_is_not_there_is_refused() -> None:
    run = in_turns(0)
    with pytest.raises(UsageError, match=r"no subject or backend 'stedy' in 0\.json: did you mean 'steady'"):
        relative_to_anchor(run, "stedy")
    with pytest.raises(UsageError, match="holds nothing but 'net'"):
        relative_to_anchor(run, "net")
    with pytest.raises(UsageError, match="holds no references"):
        relative_to_references(run)
    with pytest.raises(UsageError, match="A is relative to steady and B to no anchor"):
        compare_runs(relative_to_anchor(run, "steady"), run)
    others = tuple(replace(entry, subject=f"net{i}", session="") for i, entry in enumerate(run.entries * 2))
    with pytest.raises(UsageError, match="several of 'steady' beside"):
        relative_to_anchor(replace(run, entries=others), "steady")


@pytest.mark.parametrize(("wall", "verdict"), [(1.05, "SLOWER"), (1.3, "UNCLEAR"), (3.0, "UNCLEAR"), (None, "SLOWER")])
def test_a_core_that_others_used_is_no_witness(tmp_path: Path, wall: float | None, verdict: str) -> None:
    a = records(tmp_path / "a.json", 1.0, clock="thread_cpu")
    b = records(tmp_path / "b.json", 1.06, clock="thread_cpu")
    document = json.loads(b.read_text())
    document["records"][0]["measurement"]["wall"] = wall and 1.06 * wall
    b.write_text(json.dumps(document))
    shown = call(a, b).stdout
    assert verdict in shown
    assert ("flagged in B: busy" in shown) == ("other processes used the core" in shown) == (verdict == "UNCLEAR")
    (entry,) = read_run(b).entries
    assert entry.interval.low < entry.interval.value < entry.interval.high


# The command


def test_the_gate_is_shut_by_what_is_slower_and_by_nothing_else(tmp_path: Path) -> None:
    a = records(tmp_path / "a.json", 1.0)
    for factor, code in ((0.9, 0), (1.0, 0), (1.05, 1)):
        result = call(a, records(tmp_path / "b.json", factor), "--gate")
        assert result.exit_code == code
        assert ("net, cpu is SLOWER, +5.0%" in result.stderr) == bool(code)
    assert call(a, tmp_path / "b.json").exit_code == 0
    said = call(a, tmp_path / "b.json", "--gate", "--json")
    assert (said.exit_code, json.loads(said.stdout)["failures"]) == (1, ["net, cpu is SLOWER, +5.0%"])


def test_the_gate_is_shut_by_what_is_missing_or_not_comparable() -> None:
    def entry(subject: str, **conditions: Any) -> Entry:
        return Entry(subject, replace(CONDITIONS, **conditions), interval(1.0))

    a = Run("a", (entry("net"), entry("other"), entry("old")))
    b = Run("b", (entry("net"), entry("other", precision="fp16"), entry("new")))
    told = list(compare_runs(a, b).failures(0.01))
    assert told == ["other, cpu: not comparable: field precision (fp32, fp16)", "old is missing in B"]


def test_stores_are_compared_relative_to_their_references(tmp_path: Path) -> None:
    a, b = (store(tmp_path / f"{name}.db", moving(seed)) for name, seed in (("a", 0), ("b", 1)))
    absolute = call(a, b).stdout
    assert "UNCLEAR" in absolute.splitlines()[0]
    assert "--relative compares with them" in absolute
    relative = call(a, b, "--relative", "--gate")
    assert relative.exit_code == 0
    assert "as multiples of the references" in relative.stdout.splitlines()[0]
    assert json.loads(call(a, b, "--relative", "--json").stdout)["relative_to"] == "the references"
    both = call(a, b, "--relative", "--anchor", "cpu")
    assert both.exit_code == 2
    assert "leave one out" in both.stderr

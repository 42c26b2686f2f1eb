"""The measuring protocol against a truth: scripted drift, preemption and outliers, within 0.5% or flagged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from latbench.backend import CompileOptions
from latbench.errors import UsageError
from latbench.measure.gates import disturbed_rounds
from latbench.measure.quantities.latency import LatencyQuantity
from latbench.measure.session import SessionResult, run_session
from latbench.measure.settings import Settings
from latbench.measure.workloads import Workload
from latbench.model import Model
from latbench.testing import NullBackend
from latbench.testing.null import CompiledNull

COSTS = {f"net{k}": ms for k, ms in enumerate(np.geomspace(0.5, 5.0, 13))} | {"ref0": 1.0, "ref1": 1.5, "ref2": 2.0}


def session(script: Mapping[str, str], *, costs: Mapping[str, float] = COSTS, **settings: object) -> SessionResult:
    def workload(name: str) -> Workload:
        model = Model(name, {"x": np.zeros((2, 1), np.float32)}, onnx=lambda: b"", batch=2)
        return Workload("reference" if name.startswith("ref") else "model", name, lambda: model)

    backend = NullBackend(cost_ms=lambda model: costs[model.name])
    options = CompileOptions(options={"seed": "1", **script})
    workloads = [workload(name) for name in costs]
    return run_session(backend, workloads, LatencyQuantity(), options, Settings(**settings), seed=3)  # type: ignore[arg-type]


def errors(result: SessionResult, costs: Mapping[str, float] = COSTS) -> dict[str, float]:
    """Relative error of each value after its session's references are divided out."""
    truth = float(np.exp(np.mean([np.log(ms) for name, ms in costs.items() if name.startswith("ref")])))
    return {
        m.subject: m.value / m.reference / (costs[m.subject] / truth) - 1 for m in result.measurements if m.reference
    }


@pytest.mark.parametrize(
    ("script", "mean_error", "flagged"),
    [
        ({}, 1e-6, 0.0),
        ({"noise": "0.01"}, 0.002, 0.5),
        ({"noise": "0.005", "drift": "0.1"}, 0.004, 1.0),
        ({"noise": "0.005", "trend": "0.3"}, 0.001, 0.1),
        ({"noise": "0.005", "preempted": "0.1"}, 0.002, 0.1),
        ({"noise": "0.01", "drift": "0.2", "preempted": "0.05", "trend": "0.1"}, 0.01, 1.0),
    ],
    ids=str,
)
def test_a_value_is_within_half_a_percent_or_flagged(script: dict[str, str], mean_error: float, flagged: float) -> None:
    result = session(script, half_width=0.0025)
    off = errors(result)
    for m in result.measurements:
        assert abs(off[m.subject]) < 0.005 or m.flags, (m.subject, off[m.subject])
    assert np.mean(np.abs(list(off.values()))) <= mean_error
    assert np.mean([bool(m.flags) for m in result.measurements]) <= flagged


def test_the_interval_holds_the_truth() -> None:
    inside = []
    for seed in range(8):
        result = session({"noise": "0.02", "drift": "0.1", "seed": str(seed)})
        off = errors(result)
        inside += [m.low / m.value - 1 <= -off[m.subject] <= m.high / m.value - 1 for m in result.measurements]
    assert 0.9 < np.mean(inside) <= 0.99


def test_a_quiet_machine_stops_early_and_a_noisy_one_at_the_cap() -> None:
    quiet, noisy = session({"noise": "0.001"}), session({"noise": "0.2"}, max_rounds=20)
    assert {len(m.blocks) for m in quiet.measurements} == {Settings().min_rounds}
    assert {len(m.blocks) for m in noisy.measurements} == {20}
    assert all("unstable" in m.flags for m in noisy.measurements)


def test_rounds_in_which_the_machine_is_slow_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    run = CompiledNull.run

    def slowed(self: CompiledNull) -> float:
        return run(self) * (1.5 if 0.5 < self._virtual.seconds < 2 else 1)

    monkeypatch.setattr(CompiledNull, "run", slowed)
    result = session({"noise": "0.001"}, min_rounds=20, max_rounds=20)
    for m in result.measurements:
        assert len(m.blocks) == 20
        assert int(m.environment["repeated_rounds"] or 0) >= 4
        assert np.mean(np.array(m.blocks) > 1.1 * min(m.blocks)) <= 0.1


def test_a_known_delay_appears_in_the_result() -> None:
    delayed = {**COSTS, "net3": COSTS["net3"] + 0.25}
    before, after = ({m.subject: m.value for m in session({}, costs=costs).measurements} for costs in (COSTS, delayed))
    assert after["net3"] - before["net3"] == pytest.approx(0.25, rel=0.005)


def test_a_change_of_clock_in_the_middle_is_followed_or_flagged() -> None:
    """All models take twice as long after a second: as when a neighbour moves in, or the clock steps down."""
    result = session({"trend": "1.0", "noise": "0.005"}, half_width=0.0025)
    assert all(abs(error) < 0.005 for error in errors(result).values()) or any(m.flags for m in result.measurements)


@pytest.mark.parametrize(
    "settings", [{"half_width": 0}, {"half_width": -1}, {"half_width": float("nan")}, {"max_rounds": 1}, {"runs": 0}]
)
def test_settings_that_no_session_can_keep_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="give"):
        Settings(**settings)  # type: ignore[arg-type]


def test_conditions_say_clock_cache_and_batch() -> None:
    conditions = session({}, cache="cold").conditions
    assert conditions is not None
    assert (conditions.clock, conditions.cache, conditions.batch) == ("null", "cold", 2)
    assert conditions.options["seed"] == "1"


def test_cold_visits_run_once_less(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    run = CompiledNull.run
    monkeypatch.setattr(CompiledNull, "run", lambda self: (runs.append(1), run(self))[1])
    session({}, cache="warm")
    warm = len(runs)
    session({}, cache="cold")
    assert warm - (len(runs) - warm) == len(COSTS) * Settings().min_rounds


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(UsageError, match="threads do not fit"):
        run_session(NullBackend(), [], LatencyQuantity(), CompileOptions(threads=10_000), Settings())


def test_disturbed_rounds_are_those_in_which_the_references_are_slower_together() -> None:
    rng = np.random.default_rng(0)
    ms = np.array([1.0, 1.5, 2.0]) * np.exp(0.002 * rng.standard_normal((20, 3)))
    ms[4] *= 1.15
    ms[7] /= 1.15  # nothing disturbs a machine into being faster
    ms[9, 0] *= 2  # one reference alone is an outlier, not a disturbed round
    assert np.flatnonzero(disturbed_rounds(ms)).tolist() == [4]
    assert not disturbed_rounds(np.empty((5, 0))).any()

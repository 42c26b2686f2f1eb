"""Energy of an inference, against devices whose energy is known; all time is virtual."""

from __future__ import annotations

import pytest

from latbench.backend import Device
from latbench.errors import UsageError
from latbench.measure.energy.windows import Energy, EnergySettings, measure_energies, measure_energy
from latbench.testing import ScriptedMeter
from latbench.testing.meters import ScriptedModel

DEVICE = Device("scripted", "cpu")


def energy(meter: ScriptedMeter, model: ScriptedModel, window_s: float = 5.0, trials: int = 3) -> Energy:
    return measure_energy(model, meter, DEVICE, window_s=window_s, trials=trials, now=meter.now, sleep=meter.sleep)


def holds(measured: Energy, mj: float) -> bool:
    assert measured.low is not None
    assert measured.high is not None
    return measured.low <= mj <= measured.high


def test_idle_power_is_subtracted_from_the_energy_and_kept_in_the_power() -> None:
    meter = ScriptedMeter(idle_w=50)
    measured = energy(meter, meter.model(run_ms=2, mj=200))
    assert measured.mj == pytest.approx(200, rel=1e-9)
    assert measured.mean_power_w == pytest.approx(50 + 100)
    assert measured.idle_power_w == pytest.approx(50)
    assert measured.run_ms == pytest.approx(2)
    assert measured.trials == pytest.approx((200, 200, 200))
    assert all(runs * 2e-3 >= 5 for runs in measured.runs)
    assert measured.reason == ""


@pytest.mark.parametrize("run_ms", [0.7, 3.1, 37.0, 170.0, 900.0])
def test_a_register_that_moves_every_100_ms_stays_within_the_interval(run_ms: float) -> None:
    meter = ScriptedMeter(update_s=0.1)
    measured = energy(meter, meter.model(run_ms, mj=100 * run_ms))
    assert holds(measured, 100 * run_ms)
    if run_ms < 100:  # a window begins and ends with an update, known to one run, instead of anywhere between two
        assert measured.mj == pytest.approx(100 * run_ms, rel=1.5 * run_ms * 1e-3 / 5)


def test_noise_is_in_the_interval() -> None:
    quiet, noisy, held = [], [], 0
    for seed in range(40):
        meter = ScriptedMeter()
        quiet.append(energy(meter, meter.model(20, 200, noise=0.01, seed=seed)))
        noisy.append(energy(meter, meter.model(20, 200, noise=0.3, seed=seed)))
        held += holds(noisy[-1], 200 * 1.04603)  # the mean of exp(0.3 normal)
    assert held >= 36
    widths = [[m.high - m.low for m in measured] for measured in (quiet, noisy)]  # type: ignore[operator]
    assert sum(widths[1]) > 2 * sum(widths[0])


def test_an_idle_power_that_drifts_is_taken_from_around_each_trial() -> None:
    meter = ScriptedMeter(idle_w=50)
    model = meter.model(2, 200)

    class Warming:
        clock = "scripted"

        def run(self) -> float:
            meter.idle_w += 0.0005
            return model.run()

    measured = measure_energies([Warming()], meter, EnergySettings("scripted"), now=meter.now, sleep=meter.sleep)[0]  # type: ignore[list-item]
    assert measured.mj == pytest.approx(200, rel=2e-3)


def test_models_are_measured_in_turns_and_told_apart() -> None:
    meter = ScriptedMeter(update_s=0.02)
    models = [meter.model(2, 100), meter.model(1, 400), meter.model(5, 10)]
    measured = measure_energies(models, meter, EnergySettings("scripted"), now=meter.now, sleep=meter.sleep)
    assert [m.mj for m in measured] == pytest.approx([100, 400, 10], rel=0.03)
    assert all(holds(m, mj) for m, mj in zip(measured, (100, 400, 10), strict=True))


def test_a_device_without_counter_has_no_energy_but_a_reason() -> None:
    meter = ScriptedMeter(no_counter="the abacus has no counter: use fingers")
    measured = energy(meter, meter.model(1, 1))
    assert (measured.mj, measured.low, measured.high, measured.mean_power_w) == (None, None, None, None)
    assert measured.reason == "the abacus has no counter: use fingers"


def test_a_counter_that_goes_backwards_costs_the_model_that_ran() -> None:
    # 5 s of 150 W and 5 s of 50 W: it wraps once, during the second of three windows of load.
    meter = ScriptedMeter(wraps_at_mj=2_000_000)
    first = energy(meter, meter.model(2, 200))
    assert first.mj is None
    assert "went backwards" in first.reason
    assert energy(meter, meter.model(2, 20), window_s=1).mj == pytest.approx(20)


def test_a_counter_that_stands_still_is_no_zero() -> None:
    meter = ScriptedMeter(update_s=1000)
    measured = energy(meter, meter.model(2, 200))
    assert measured.mj is None
    assert "did not move" in measured.reason
    assert "--window" in measured.reason


def test_a_load_that_draws_no_more_than_idle_is_no_zero() -> None:
    meter = ScriptedMeter()
    measured = energy(meter, meter.model(2, -1e-6))
    assert measured.mj is None
    assert "W idle" in measured.reason
    assert measured.mean_power_w == pytest.approx(50)


@pytest.mark.parametrize(("window_s", "trials"), [(0, 3), (-1, 3), (float("nan"), 3), (5, 1)])
def test_windows_and_trials_that_say_nothing_are_refused(window_s: float, trials: int) -> None:
    with pytest.raises(UsageError):
        EnergySettings("power", window_s, trials)

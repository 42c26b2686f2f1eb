"""Energy of one inference: a model runs back to back for seconds, between two idle windows whose power is subtracted.

A counter moves in steps, every 20 to 100 ms on a GPU. So a window begins and ends at the moment at which the counter is
seen to move: what its steps leave uncertain is then one run, and not the energy of a step. Windows of 5 s and several
trials follow Yang et al., "Part-time Power Measurements: nvidia-smi's Lack of Attention" (SC 2024).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from latbench.backend import Compiled, Device
from latbench.errors import CounterError, LatbenchError, MeasurementError, NoCounterError, UsageError, reason
from latbench.meter import Counter, Meter

_SETTLE = 0.2
"""Share of a window that passes before it begins: clocks rise under a load and fall after it."""

_IDLE_STEP_S = 0.01
"""How long an idle window sleeps at a time."""


@dataclass(frozen=True, slots=True)
class EnergySettings:
    """How energy is measured.

    Args:
        meter: plug-in name or ``module:Class``.
        window_s: seconds for which a model runs without a break; at least 50 updates of the counter are advisable.
        trials: windows of each model; the interval comes from their spread.

    Raises:
        UsageError: a window without length, or fewer trials than a spread needs.
    """

    meter: str
    window_s: float = 5.0
    trials: int = 3

    def __post_init__(self) -> None:
        if not (math.isfinite(self.window_s) and self.window_s > 0):
            raise UsageError(f"a window of {self.window_s:g} s is too short: give --window 5s")
        if self.trials < 2:
            raise UsageError(f"{self.trials} trials have no spread: give 2 or more")

    def max_seconds(self, models: int) -> float:
        """Return the longest that a session of so many models may take beside compiling."""
        windows = self.trials * models + self.trials + 1
        # A counter that never moves is waited for at either end.
        return windows * self.window_s * (3 + _SETTLE)


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of one inference, or why it is not known.

    Args:
        mj: millijoules of one inference, idle power subtracted; None where it is not known.
        low: lower end of its 95% interval: Student's t over the trials, widened by the one run a window may be off.
        high: upper end.
        mean_power_w: what the device drew while the model ran, idle power included.
        idle_power_w: what it drew in the idle windows.
        run_ms: how long a run took, breaks between runs included.
        trials: `mj` of each window.
        runs: inferences of each window.
        reason: why `mj` is None.
    """

    mj: float | None = None
    low: float | None = None
    high: float | None = None
    mean_power_w: float | None = None
    idle_power_w: float | None = None
    run_ms: float | None = None
    trials: tuple[float, ...] = ()
    runs: tuple[int, ...] = ()
    reason: str = ""


def measure_energy(
    compiled: Compiled,
    meter: Meter,
    device: Device,
    *,
    window_s: float = 5.0,
    trials: int = 3,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Measure the energy of a compiled model, in this process.

    Args:
        compiled: the model, compiled and warm.
        meter: finds the counter of `device`.
        device: what `compiled` runs on, as its backend describes it.
        window_s: see `EnergySettings`.
        trials: see `EnergySettings`.
        now: seconds since some moment.
        sleep: lets seconds pass.

    Returns:
        The energy; without a value, and with the reason, where the device has no counter or the counter does not count.

    Raises:
        UsageError: see `EnergySettings`.
    """
    settings = EnergySettings(meter.name, window_s, trials)
    try:
        return measure_energies([compiled], meter.counter(device), settings, now=now, sleep=sleep)[0]
    except (NoCounterError, CounterError) as error:
        return Energy(reason=str(error))


def measure_energies(
    models: Sequence[Compiled],
    counter: Counter,
    settings: EnergySettings,
    *,
    rng: np.random.Generator | None = None,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Energy]:
    """Measure models in turns: every trial runs each of them once, in random order, between two idle windows.

    Args:
        models: compiled and warm.
        counter: of the device that they run on.
        settings: length and number of the windows.
        rng: draws the orders.
        now: seconds since some moment.
        sleep: lets seconds pass.

    Returns:
        One result a model, in the order of `models`.

    Raises:
        CounterError: the counter cannot be read any more, does not move, or goes backwards.
    """
    rng, reader = rng or np.random.default_rng(0), _Reader(counter, now)
    windows: list[list[_Window]] = [[] for _ in models]
    reasons = [""] * len(models)
    idle_w: list[float] = []

    def rest() -> None:
        idle_w.append(
            reader.window(lambda: sleep(min(_IDLE_STEP_S, settings.window_s / 10)), settings.window_s).power_w
        )

    rest()
    for _ in range(settings.trials):
        for index in rng.permutation(len(models)):
            if not reasons[index]:
                reasons[index] = _trial(reader, models[index], settings.window_s, windows[index])
        rest()
    between = [(before + after) / 2 for before, after in pairwise(idle_w)]
    return [
        Energy(reason=reason) if reason else _energy(trials, between)
        for trials, reason in zip(windows, reasons, strict=True)
    ]


def _trial(reader: _Reader, model: Compiled, window_s: float, windows: list[_Window]) -> str:
    """Add a window to those of a model, or return why there is none."""
    try:
        window = reader.window(model.run, window_s)
    except CounterError:
        raise
    except MeasurementError as error:
        return str(error)
    if window.mj == 0:
        raise CounterError(
            f"the energy counter did not move while a model ran {window.seconds:.3g} s: give --window a larger value"
        )
    windows.append(window)
    return ""


@dataclass(frozen=True, slots=True)
class _Window:
    """How far a counter moved while a step was repeated."""

    mj: float
    seconds: float
    steps: int

    @property
    def power_w(self) -> float:
        return self.mj / self.seconds / 1e3


class _Reader:
    """A counter read beside a clock."""

    def __init__(self, counter: Counter, now: Callable[[], float]) -> None:
        self._counter, self._now = counter, now
        self._last = -math.inf

    def window(self, step: Callable[[], object], seconds: float) -> _Window:
        """Repeat `step` for at least `seconds`, from one movement of the counter to another.

        Raises:
            CounterError: the counter cannot be read, or goes backwards.
        """
        self._repeat(step, seconds * _SETTLE)
        self._until_it_moves(step, seconds)
        begin_mj, begin = self._last, self._now()
        steps = self._repeat(step, seconds) + self._until_it_moves(step, seconds)
        return _Window(self._last - begin_mj, self._now() - begin, steps)

    def _repeat(self, step: Callable[[], object], seconds: float) -> int:
        steps, end = 0, self._now() + seconds
        while self._now() < end:
            step()
            steps += 1
        return steps

    def _until_it_moves(self, step: Callable[[], object], most: float) -> int:
        """Repeat `step` until the counter moves, for at most `most` seconds; return how often it ran."""
        before, steps, end = self._read(), 0, self._now() + most
        while True:
            step()
            steps += 1
            if self._read() > before or self._now() > end:
                return steps

    def _read(self) -> float:
        last = self._last
        try:
            self._last = self._counter.energy_mj()
        except LatbenchError:
            raise
        except Exception as error:
            raise CounterError(f"the energy counter cannot be read: {reason(error)}") from error
        if self._last < last:
            raise CounterError(
                f"the energy counter went backwards, from {last:.6g} to {self._last:.6g} mJ: "
                "it wrapped around or was reset; measure again"
            )
        return self._last


def _energy(windows: Sequence[_Window], idle_w: Sequence[float]) -> Energy:
    """Return the energy of one model from its windows, each with the idle power around it."""
    from scipy.special import stdtrit

    trials = np.array([(w.mj - idle * w.seconds * 1e3) / w.steps for w, idle in zip(windows, idle_w, strict=True)])
    value, runs = float(trials.mean()), np.array([w.steps for w in windows])
    power_w = sum(w.mj for w in windows) / sum(w.seconds for w in windows) / 1e3
    if value <= 0:
        return Energy(
            mean_power_w=power_w,
            idle_power_w=float(np.mean(idle_w)),
            reason=f"the device drew {power_w:.4g} W while the model ran and {np.mean(idle_w):.4g} W idle: "
            "make sure that nothing else runs there, or give --window a larger value",
        )
    run_ms = float(np.median([w.seconds / w.steps for w in windows])) * 1e3
    spread = float(stdtrit(len(trials) - 1, 0.975) * trials.std(ddof=1)) / math.sqrt(len(trials))
    one_run = power_w * run_ms / float(runs.mean())  # what a window may be off by, its idle power included
    half_width = math.hypot(spread, one_run)
    return Energy(
        mj=value,
        low=max(0.0, value - half_width),
        high=value + half_width,
        mean_power_w=power_w,
        idle_power_w=float(np.mean(idle_w)),
        run_ms=run_ms,
        trials=tuple(trials.tolist()),
        runs=tuple(int(count) for count in runs),
    )

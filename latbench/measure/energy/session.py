"""One session of energy: the models that `latbench.measure.session` would time are compiled, and metered instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from latbench import plugins
from latbench.backend import Backend, CompileOptions, HasFlags, device_of
from latbench.devices.host import host_state
from latbench.measure.energy.windows import Energy, EnergySettings, measure_energies
from latbench.measure.rounds import Candidate, Task
from latbench.measure.session import Notify, SessionResult, device_state, latency_conditions, prepared, timed
from latbench.measure.settings import Settings
from latbench.meter import Meter
from latbench.records.measurement import Measurement
from latbench.records.subjects import Failure


def run_energy_session(
    backend: Backend,
    tasks: Sequence[Task],
    options: CompileOptions,
    settings: Settings,
    *,
    energy: EnergySettings,
    seed: int = 0,
    session: str = "",
    notify: Notify = lambda phase, index: None,
) -> SessionResult:
    """Measure the energy of the tasks; the arguments are those of `latbench.measure.session.run_session`.

    Raises:
        UsageError: the backend refuses the options, or they ask for more threads than the machine gives.
        NoCounterError: the meter cannot count the energy of the backend's device.
        CounterError: the counter fails.
    """
    meter: Meter = plugins.configure(plugins.METERS, energy.meter, {})
    counter = meter.counter(device_of(backend, options))
    rng = np.random.default_rng(seed)
    failures: list[Failure] = []
    seconds: dict[str, float] = {}
    with prepared(
        backend, tasks, options, settings, rng=rng, failures=failures, seconds=seconds, notify=notify
    ) as candidates:
        if not candidates:
            return SessionResult(None, (), tuple(failures), seconds)
        notify("timing", -1)
        environment = {**host_state(), **device_state(backend), "meter": energy.meter}
        with timed(seconds, "time"):
            energies = measure_energies([c.compiled for c in candidates], counter, energy, rng=rng)
        environment |= {f"{key}_after": value for key, value in device_state(backend).items()}
        measurements = tuple(
            replace(m, session=session, seed=seed, environment={**environment, "idle_power_w": measured.idle_power_w})
            for m, measured in _measurements(candidates, energies, failures)
        )
        conditions = latency_conditions(backend, candidates[0], options, settings)
    # The clock of a run plays no part; a model that runs back to back is warm.
    conditions = replace(conditions, quantity="energy", unit="mJ", clock=energy.meter, cache="warm")
    return SessionResult(conditions, measurements, tuple(failures), seconds)


def _measurements(
    candidates: Sequence[Candidate], energies: Sequence[Energy], failures: list[Failure]
) -> Iterator[tuple[Measurement, Energy]]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for order, (candidate, energy) in enumerate(zip(candidates, energies, strict=True)):
        task = candidate.task
        if energy.mj is None or energy.low is None or energy.high is None:
            failures.append(Failure(task.kind, task.subject, energy.reason, task.replicate))
            continue
        measurement = Measurement(
            subject=task.subject,
            kind=task.kind,
            value=energy.mj,
            low=energy.low,
            high=energy.high,
            replicate=task.replicate,
            blocks=energy.trials,
            wall=energy.run_ms,
            mean_power_w=energy.mean_power_w,
            flags=tuple(candidate.compiled.flags()) if isinstance(candidate.compiled, HasFlags) else (),
            digest=candidate.model.digest,
            order=order,
            build_ms=candidate.model.build_ms,
            compile_ms=candidate.compile_ms,
            timing_ms=(energy.run_ms or 0.0) * sum(energy.runs),
            created_at=now,
        )
        yield measurement, energy

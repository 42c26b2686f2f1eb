"""Profile a search space: sample -> build -> compile -> measure -> store, resumable at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from latbench import plugins
from latbench.backend import Backend, CompileOptions, device_of
from latbench.devices.host import check_threads, divided_cores
from latbench.errors import LatbenchError, PluginError, UsageError, reason
from latbench.measure.energy.windows import EnergySettings
from latbench.measure.settings import Settings
from latbench.measure.workers.request import SessionRequest
from latbench.meter import Meter
from latbench.profiling.passes import Pass, Progress
from latbench.profiling.plan import Stretch, plan
from latbench.records.noise_floor import NoiseFloor, noise_floor
from latbench.records.subjects import Failure, Subject, references
from latbench.space import SearchSpace, SpaceSpec
from latbench.store import Identity, Store

Answer = TypeVar("Answer")

SESSION_SIZE = 13
"""Subjects of one session beside its references: enough neighbours in time to tell drift from workload."""

ACCELERATOR_SESSION_SIZE = 29
"""A process takes seconds to start on an accelerator, for a context and the libraries' kernels; more share them."""

ENERGY_SESSION_SIZE = 8
"""Subjects of one session of energy: they share its idle windows, and a kill loses at most so many."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a profile holds now of one quantity.

    Args:
        store: the file.
        progress: what this run did.
        planned: how many architectures it is to hold; fewer than asked for where the space has no more.
        left: how many planned subjects nobody has measured.
        architectures: how many are measured.
        operations: how many are measured.
        failures: what could not be measured.
        noise_floor: what the blind duplicates say.
        energy: the same of the energy, where a meter was asked for.
    """

    store: Path
    progress: Progress
    planned: int
    left: int
    architectures: int
    operations: int
    failures: tuple[Failure, ...]
    noise_floor: NoiseFloor
    energy: Summary | None = None


def profile_space(
    space: SearchSpace,
    backend: str,
    store: str | Path,
    *,
    samples: int,
    seed: int = 0,
    options: CompileOptions | None = None,
    settings: Settings | None = None,
    batch: int = 1,
    with_operations: bool = False,
    meter: str | None = None,
    window_s: float = 5.0,
    retry_failed: bool = False,
    budget_seconds: float | None = None,
    timeout: float = 120.0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Measure `samples` distinct architectures, and some of them again, and keep every value in `store`.

    Runs that were interrupted continue; several processes may work on one store. With a meter, a second pass measures
    the energy of what the first one timed; the meter counts whatever runs on the device, so one process alone must.

    Args:
        space: the search space.
        backend: plug-in name or ``module:Class``.
        store: the SQLite file; made if missing.
        samples: how many architectures; isomorphic ones count once.
        seed: draws the architectures; more samples with one seed extend the same list.
        options: how models are compiled.
        settings: how they are measured.
        batch: inputs of one inference.
        with_operations: also measure every distinct operation of the space, for the lookup predictor.
        meter: plug-in name or ``module:Class`` of what counts energy; None measures latency alone.
        window_s: seconds for which a metered model runs without a break, three times.
        retry_failed: also measure what an earlier run could not.
        budget_seconds: start no session after so long, counted from the first one; None measures all.
        timeout: seconds that one model may take to compile.
        on_progress: called after each session.

    Raises:
        UsageError: nothing to measure, the store is another profile's, or a meter with a cold cache.
        NoCounterError: the meter cannot count the energy of the backend's device.
        MeasurementError: the backend cannot run the space's reference architectures, or the meter's counter fails.
    """
    options, settings = options or CompileOptions(), settings or Settings()
    if samples < 1 and not with_operations:
        raise UsageError(f"{samples} samples leave nothing to measure: give --samples 1 or more")
    if meter is not None and settings.cache == "cold":
        raise UsageError(
            "a metered model runs back to back, so its cache is warm: meter it in a store with --cache warm"
        )
    check_threads(options.threads)
    spec = SpaceSpec.of(space)
    identity = Identity(spec, backend, options.precision, options.threads, batch, settings.cache, dict(options.options))
    request = SessionRequest("", backend, options, settings, spec, batch, seed, ())
    # A mistake must not leave a store behind, nor be found after hours.
    target: Backend = plugins.configure(plugins.BACKENDS, backend, {})
    energy = None if meter is None else _checked(EnergySettings(meter, window_s), target, options)
    # One session is timed while the next one compiles, where there is a core to spare and no accelerator to share.
    on_cpu = _told("backend", backend, partial(device_of, target, options)).kind == "cpu"
    ahead = on_cpu and bool(divided_cores(options.threads)[0])
    size = SESSION_SIZE if on_cpu else ACCELERATOR_SESSION_SIZE
    stretches = plan(space, samples, seed, with_operations=with_operations)
    deadline = time.monotonic() + (math.inf if budget_seconds is None else budget_seconds)
    new_pass = partial(Pass, references=references(space), timeout=timeout, deadline=deadline, on_progress=on_progress)
    with Store(store, identity, quantity="latency") as opened:
        if retry_failed:
            opened.retry_failures()
        timing = new_pass(opened, request, riding=True, session_size=size, ahead=ahead)
        try:
            progress = timing.run(stretches)
        except LatbenchError:
            opened.discard_if_empty()
            raise
        summary = _summary(opened, progress, stretches)
    if energy is None:
        return summary
    limited = replace(settings, max_seconds=energy.max_seconds(ENERGY_SESSION_SIZE))
    request = replace(request, settings=limited, energy=energy)
    with Store(store, identity, quantity="energy") as opened:
        if retry_failed:
            opened.retry_failures()
        # Nothing compiles ahead: the counter would count the compiler.
        metering = new_pass(opened, request, riding=False, session_size=ENERGY_SESSION_SIZE, ahead=False)
        stretches = _without(stretches, summary.failures)
        progress = metering.run(stretches)
        return replace(summary, energy=_summary(opened, progress, stretches))


def _checked(energy: EnergySettings, backend: Backend, options: CompileOptions) -> EnergySettings:
    """Return the settings, once it is sure that the meter can count."""
    meter: Meter = plugins.configure(plugins.METERS, energy.meter, {})
    device = _told("backend", backend.name, partial(device_of, backend, options))
    _told("meter", energy.meter, partial(meter.counter, device))
    return energy


def _told(word: str, name: str, ask: Callable[[], Answer]) -> Answer:
    """Return what a plug-in answers; a stranger's may raise anything."""
    try:
        return ask()
    except LatbenchError:
        raise
    except Exception as error:
        raise PluginError(f"{word} {name!r} fails ({reason(error)}): correct it, or choose another") from error


def _without(stretches: Sequence[Stretch], failures: Sequence[Failure]) -> list[Stretch]:
    """Leave out what has no latency: it would fail again."""
    failed = {Subject(failure.kind, failure.subject, failure.replicate) for failure in failures}
    left = []
    for stretch in stretches:
        again = [s for s in stretch.again if not failed & {s, replace(s, replicate=0)}]
        left.append(Stretch([s for s in stretch.first if s not in failed], again))
    return left


def _summary(store: Store, progress: Progress, stretches: Sequence[Stretch]) -> Summary:
    planned = [subject for stretch in stretches for subject in (*stretch.first, *stretch.again)]
    return Summary(
        store=store.path,
        progress=progress,
        planned=sum(subject.kind == "architecture" and not subject.replicate for subject in planned),
        # Other processes measure, too.
        left=sum(not store.holds(subject) for subject in planned) if progress.done < progress.total else 0,
        architectures=store.count("architecture"),
        operations=store.count("operation"),
        failures=store.failures(),
        noise_floor=noise_floor(store.duplicates()),
    )

"""Profile a search space: sample -> build -> compile -> measure -> store, resumable at any moment."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from latbench.backend import Backend, CompileOptions
from latbench.errors import LatbenchError, MeasurementError, UsageError
from latbench.executor import Executor, Place, PlaceLostError, SessionDiedError
from latbench.measure.energy.windows import EnergySettings
from latbench.measure.quantities import QUANTITIES
from latbench.measure.quantities.energy import EnergyQuantity
from latbench.measure.quantity import Quantity
from latbench.measure.settings import Settings
from latbench.measure.workers.backend_name import backend_name
from latbench.measure.workers.local import LocalExecutor
from latbench.measure.workers.places import PlacesRequest
from latbench.measure.workers.request import SessionRequest
from latbench.measure.workers.structure import StructureRequest
from latbench.profiling.passes import Pass
from latbench.profiling.plan import Stretch, plan
from latbench.profiling.progress import Progress
from latbench.progress import told
from latbench.records.noise_floor import NoiseFloor, noise_floor
from latbench.records.structure import Structure
from latbench.records.subjects import Failure, Subject, references
from latbench.space import HasOperations, HasParts, SearchSpace, SpaceSpec
from latbench.store import Identity, Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a profile now holds of one quantity.

    Args:
        store: the file.
        progress: what this run did.
        planned: how many architectures it is to hold; fewer than asked for where the space has no more.
        left: how many planned subjects are not measured yet.
        architectures: how many are measured.
        operations: how many are measured.
        failures: what could not be measured.
        noise_floor: from the blind duplicates.
        parts: how many are measured.
        more: the same of the other quantities of the run, by name.
    """

    store: Path
    progress: Progress
    planned: int
    left: int
    architectures: int
    operations: int
    failures: tuple[Failure, ...]
    noise_floor: NoiseFloor
    parts: int = 0
    more: Mapping[str, Summary] = field(default_factory=dict)


def profile_space(
    space: SearchSpace,
    backend: str | Backend,
    store: str | Path,
    *,
    samples: int,
    quantities: str | Sequence[str] = ("latency",),
    seed: int = 0,
    options: CompileOptions | None = None,
    settings: Settings | None = None,
    batch: int = 1,
    with_operations: bool = False,
    with_parts: bool = False,
    meter: str | None = None,
    window_s: float = 5.0,
    retry_failed: bool = False,
    budget_seconds: float | None = None,
    timeout: float = 120.0,
    executor: Executor | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Measure `samples` distinct architectures, and some of them again, and keep every value in `store`.

    Runs that were interrupted continue; several processes may work on one store. Each further quantity is a pass of its
    own over what the first one measured. A meter counts whatever runs on the device, so only one process may meter it.

    Args:
        space: the search space.
        backend: plug-in name, ``module:Class``, or a backend that its class gives without arguments.
        store: the SQLite file; made if missing.
        samples: how many architectures; isomorphic ones count once.
        quantities: what is measured of them: ``"latency"``, ``"energy"``, ``"memory"``, or several.
        seed: draws the architectures; more samples with one seed extend the same list.
        options: how models are compiled.
        settings: how they are measured.
        batch: inputs of one inference.
        with_operations: also measure every distinct operation of the space, for the lookup predictor.
        with_parts: also measure the parts of every architecture, such as those up to an early exit.
        meter: plug-in name or ``module:Class`` of what counts energy, which is then measured too.
        window_s: seconds for which a metered model runs without a break, three times.
        retry_failed: also measure what an earlier run could not.
        budget_seconds: start no session after so long, counted from the first one; None measures all.
        timeout: seconds that one model may take to compile.
        executor: where sessions run; None runs them in processes of this machine, at all equal devices of the backend.
        on_progress: called after each session; unless given, a notebook shows it, or the log ``latbench`` has it.

    Raises:
        UsageError: there is nothing to measure, the space does not have the operations or parts, the store belongs to
            another profile or to a space that has been edited since, or a meter is combined with a cold cache.
        NoCounterError: the meter cannot count the energy of the backend's device.
        MeasurementError: the backend cannot run the space's reference architectures, or the meter's counter fails.
    """
    options, settings = options or CompileOptions(), settings or Settings()
    if samples < 1 and not with_operations:
        raise UsageError(f"{samples} samples leave nothing to measure: give --samples 1 or more")
    if with_operations and not isinstance(space, HasOperations):
        raise UsageError(f"{SpaceSpec.of(space)} has no operations that run alone: leave --operators out")
    if with_parts and not isinstance(space, HasParts):
        raise UsageError(f"{SpaceSpec.of(space)} has no parts that run alone: leave --parts out")
    wanted = _wanted(quantities, meter, window_s)
    spec, name = SpaceSpec.of(space), backend_name(backend)
    identity = Identity(spec, name, options.precision, options.threads, batch, settings.cache, dict(options.options))
    with ExitStack() as stack:
        tell = stack.enter_context(told(_log))
        running = stack.enter_context(LocalExecutor(timeout)) if executor is None else executor
        # A mistake must not leave a store behind, nor come to light after hours.
        places = _equal_places(running, PlacesRequest(name, options, settings, wanted))
        stretches = plan(space, samples, seed, with_operations=with_operations, with_parts=with_parts)
        # Found while the first session compiles: only a store that holds something has to be compared with it before.
        structure = running.start(StructureRequest(spec, batch, with_operations), places[0])
        deadline = time.monotonic() + (math.inf if budget_seconds is None else budget_seconds)
        summaries: dict[str, Summary] = {}
        for quantity in wanted:
            with Store(store, identity, quantity=quantity.name) as opened:
                request = SessionRequest("", name, options, settings, spec, batch, seed, (), quantity)
                try:
                    check = cache(partial(_check_structure, opened, structure))
                    if not opened.is_empty:
                        check()
                    if retry_failed:
                        opened.retry_failures()
                    progress = Pass(
                        opened,
                        request,
                        executor=running,
                        places=places,
                        references=references(space),
                        deadline=deadline,
                        before_keeping=check,
                        on_progress=on_progress or (lambda progress: tell(str(progress))),
                    ).run(stretches)
                except LatbenchError:
                    opened.discard_if_empty()
                    raise
                summaries[quantity.name] = summary = _summary(opened, progress, stretches)
                stretches = _without(stretches, summary.failures)
    first, *_ = summaries.values()
    return replace(first, more={name: summary for name, summary in summaries.items() if summary is not first})


def _wanted(quantities: str | Sequence[str], meter: str | None, window_s: float) -> tuple[Quantity, ...]:
    """Return the quantities in the order in which they are measured."""
    names = {
        *([quantities] if isinstance(quantities, str) else quantities),
        *((EnergyQuantity.name,) if meter is not None else ()),
    }
    for name in names:
        if name not in QUANTITIES:
            raise UsageError(f"no quantity {name!r}: choose from {', '.join(QUANTITIES)}")
    if not names:
        raise UsageError(f"no quantity is given: give --quantity {' or '.join(QUANTITIES)}")
    if EnergyQuantity.name not in names:
        return tuple(kind() for name, kind in QUANTITIES.items() if name in names)
    if meter is None:
        raise UsageError("energy needs a meter: give --meter, see 'latbench plugins'")
    energy = EnergyQuantity(EnergySettings(meter, window_s))
    return tuple(energy if kind is EnergyQuantity else kind() for name, kind in QUANTITIES.items() if name in names)


def _equal_places(executor: Executor, request: PlacesRequest) -> list[Place]:
    """Return the places whose devices may share a store: those that equal the first one.

    Raises:
        UsageError: the backend or a quantity is not available there.
        MeasurementError: there is no place.
    """
    places = executor.places(request)
    if not places:
        raise MeasurementError(f"the executor has no place for {request.backend!r}: check that its machines answer")
    return [place for place in places if not place.device.differences(places[0].device)]


def _check_structure(store: Store, found: Future[Structure | None]) -> None:
    """Compare the space with the one that a store was made with; one that cannot be built fails where it is measured.

    Raises:
        StoreError: the space has been edited since.
        MeasurementError: the process that built its reference architectures died.
    """
    try:
        structure = found.result()
    except (SessionDiedError, PlaceLostError) as death:
        raise MeasurementError(f"the reference architectures cannot be built: {death}") from death
    if structure is not None:
        store.check_structure(structure)


def _without(stretches: Sequence[Stretch], failures: Sequence[Failure]) -> list[Stretch]:
    """Leave out subjects that failed before: they would fail again."""
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
        # Other processes measure too.
        left=sum(not store.holds(subject) for subject in planned) if progress.done < progress.total else 0,
        architectures=store.count("architecture"),
        operations=store.count("operation"),
        parts=store.count("part"),
        failures=store.failures(),
        noise_floor=noise_floor(store.duplicates()),
    )

"""One run: what ``latbench measure`` or ``latbench profile`` measured at one time, and its values by the references."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mstats

from latbench.errors import UsageError, did_you_mean
from latbench.measure.estimate import QUANTILE, Z_95
from latbench.measure.one_model.record import ModelRecord, read_records
from latbench.measure.settings import Settings
from latbench.records.measurement import Conditions, Measurement
from latbench.records.profile import Profile
from latbench.records.subjects import REFERENCES
from latbench.runs.verdict import BUSY, Interval, ratio
from latbench.space import SpaceSpec
from latbench.store import Store

_MEDIAN = 1.2533
"""Standard error of a median, relative to that of a mean."""
PARTS, TRIMMED = 15, 0.2
"""Parts of a measurement that are held against the same parts of its anchor's, and the share of them that is left out
at either end: what disturbs one part of one of the two says nothing of their ratio."""
_BETWEEN_RUNS = 0.007
"""Standard deviation, relative, of what runs of one model on one processor differ by for reasons that last longer than
a run, which no run sees in itself (benchmarks/RESULTS.md, the gate)."""
_WAITING, _OVERHEAD_MS = 1.15, 0.01
"""How many times its own CPU time, and the call's overhead, a run may take on the wall clock of a quiet machine."""
_MOST_BUSY = 0.3
"""Half-width, in logarithms, that two runs on shared cores show: they differ by up to 1.5 times."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One measured subject of a run.

    Args:
        subject: a model's name, or an architecture's string form.
        conditions: what it was measured under.
        interval: its value.
        more: facts that the conditions do not hold and that must be equal too: the inputs' shapes, the search space.
        flags: what the measurement was flagged with.
        session: subjects of one session were measured in turns.
        blocks: the values of its visits, in order of time, those of all sessions in a row.
    """

    subject: str
    conditions: Conditions
    interval: Interval
    more: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    session: str = ""
    blocks: tuple[float, ...] = ()

    def differences(self, other: Entry) -> list[str]:
        """Return the fields that differ: ``"threads"``, ``"device.driver"``, ``"inputs"``."""
        names = [*self.conditions.differences(other.conditions)]
        return names + [name for name in self.more if self.more[name] != other.more.get(name)]

    def fact(self, name: str) -> object:
        """Return the value of a field that `differences` names."""
        group, _, key = name.partition(".")
        if group == "device":
            device = self.conditions.device
            return {**device.facts, "name": device.name, "kind": device.kind}.get(key)
        return self.more[name] if name in self.more else getattr(self.conditions, name)


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured at one time.

    Args:
        name: of the file.
        entries: of distinct subjects and backends.
        is_profile: whether they are architectures of one profile, whose mean tells more than each of them.
        common_error: standard error of the logarithm of what all values share: how well the session that they are
            scaled to is known.
        reference: what the references of a profile took, all in all; None where none were measured.
        relative_to: what values are multiples of, in words; empty where they are in the conditions' unit.
    """

    name: str
    entries: tuple[Entry, ...]
    is_profile: bool = False
    common_error: float = 0.0
    reference: Interval | None = None
    relative_to: str = ""


def read_run(path: str | Path, quantity: str | None = None) -> Run:
    """Read the records that ``latbench measure`` wrote (.json), or a store of ``latbench profile``.

    Args:
        path: the file.
        quantity: which one of a store (`latbench.store.Store`).

    Raises:
        StoreError: the file is missing, or is neither.
    """
    path = Path(path)
    if path.suffix == ".json":
        return Run(path.name, tuple(map(_of_record, read_records(path))))
    with Store(path, quantity=quantity) as store:
        return profile_run(store.profile(), path.name)


def profile_run(profile: Profile, name: str) -> Run:
    """Return the first measurement of every architecture of a profile, with the drift between sessions divided out."""
    space = {"space": str(SpaceSpec.of(profile.space))}
    entries = (_entry(m.scaled_to(profile.reference), profile.conditions, space) for m in profile.first)
    error, level = _reference_error(profile), profile.reference
    half = math.exp(Z_95 * error)
    reference = None if level is None else Interval(level, level / half, level * half)
    return Run(name, tuple(entries), is_profile=True, common_error=error, reference=reference)


def relative_to_references(run: Run) -> Run:
    """Return a profile's run with values as multiples of what the references took in the same sessions.

    A change of the whole machine, such as of its clock, is not seen in them.

    Raises:
        UsageError: no references were measured.
    """
    if run.reference is None:
        raise UsageError(
            f"{run.name} holds no references to compare with: give two stores of 'latbench profile', "
            "or --anchor with a model or backend that was measured beside the others"
        )
    level = run.reference.value
    entries = tuple(
        dataclasses.replace(entry, interval=Interval(*(end / level for end in dataclasses.astuple(entry.interval))))
        for entry in run.entries
    )
    sessions = len({entry.session for entry in run.entries})
    # What remains common: how differently the references of one session and of another are laid out in memory.
    error = Settings().between_sessions / math.sqrt(REFERENCES * max(1, sessions))
    return dataclasses.replace(run, entries=entries, common_error=error, relative_to="the references")


def relative_to_anchor(run: Run, anchor: str) -> Run:
    """Return a run with values as multiples of what an anchor took, which the result leaves out.

    Where a subject and the anchor were measured in turns, as the backends of one model are, each part of the time gives
    a ratio of its own, which a change of the machine between parts does not move; otherwise both values' errors count.

    Args:
        run: of ``latbench measure``.
        anchor: a subject, or a backend.

    Raises:
        UsageError: the run holds no such anchor, or several for a subject, or nothing besides.
    """
    anchors = [entry for entry in run.entries if anchor in (entry.subject, entry.conditions.backend)]
    others = [entry for entry in run.entries if entry not in anchors]
    if not anchors:
        known = [name for entry in run.entries for name in (entry.subject, entry.conditions.backend)]
        raise UsageError(
            f"no subject or backend {anchor!r} in {run.name}: {did_you_mean(anchor, dict.fromkeys(known))}"
        )
    if not others:
        raise UsageError(f"{run.name} holds nothing but {anchor!r}: measure it beside what is to be compared")
    entries = tuple(_anchored(entry, _anchor_of(entry, anchors, run, anchor)) for entry in others)
    return dataclasses.replace(run, entries=entries, relative_to=anchor)


def _entry(measurement: Measurement, conditions: Conditions, more: Mapping[str, str]) -> Entry:
    interval = Interval(measurement.value, measurement.low, measurement.high)
    told = (measurement.flags, measurement.session, measurement.blocks)
    return Entry(measurement.subject, conditions, interval, more, *told)


def _of_record(record: ModelRecord) -> Entry:
    inputs = ", ".join(f"{name}:{shape}" for name, shape in record.inputs.items())
    entry = _entry(record.measurement, record.conditions, {"inputs": inputs})
    if record.conditions.device.kind == "cpu" and entry.interval.value:
        half = math.exp(Z_95 * _BETWEEN_RUNS)
        entry = dataclasses.replace(entry, interval=ratio(Interval(1.0, 1 / half, half), entry.interval))
    return _as_busy(entry, record.measurement.wall)


def _as_busy(entry: Entry, wall: float | None) -> Entry:
    """Widen the interval of a value whose thread waited for others.

    A thread's own CPU time leaves out the waiting, and not what the others cost besides: caches, and the other half of
    the core. All sessions of one call may see them alike, so that their spread does not tell.
    """
    value = entry.interval.value
    if wall is None or entry.conditions.clock != "thread_cpu" or not value:
        return entry
    waiting = math.log(max(1.0, (wall - _OVERHEAD_MS) / value / _WAITING))
    if not waiting:
        return entry
    half = math.exp(min(waiting, _MOST_BUSY))
    interval = ratio(Interval(1.0, 1 / half, half), entry.interval)
    return dataclasses.replace(entry, interval=interval, flags=(*entry.flags, BUSY))


def _reference_error(profile: Profile) -> float:
    """Return the standard error of the logarithm of a profile's reference, the median of its sessions'."""
    references = {m.session: m.reference for m in profile.measurements if m.reference is not None}
    if not references:
        return 0.0
    if len(references) > 1:
        return _MEDIAN * float(np.log(list(references.values())).std(ddof=1)) / math.sqrt(len(references))
    # One session does not tell how far another would differ; the interval of a single value does.
    return float(np.median([m.half_width for m in profile.first])) / Z_95 if profile.first else 0.0


def _anchor_of(entry: Entry, anchors: Sequence[Entry], run: Run, name: str) -> Entry:
    """Return the anchor of an entry: of its session, else of its backend or its subject, else the only one."""
    choices = (
        [each for each in anchors if each.session and each.session == entry.session],
        [each for each in anchors if each.conditions.backend == entry.conditions.backend],
        [each for each in anchors if each.subject == entry.subject],
        anchors,
    )
    found = next(choice for choice in choices if choice)
    if len(found) > 1:
        raise UsageError(f"{run.name} holds several of {name!r} beside {entry.subject!r}: measure one alone")
    return found[0]


def _anchored(entry: Entry, anchor: Entry) -> Entry:
    in_turns = bool(entry.session) and entry.session == anchor.session
    if not in_turns or min(len(entry.blocks), len(anchor.blocks)) < PARTS:
        return dataclasses.replace(entry, interval=ratio(anchor.interval, entry.interval))
    logs = _parts(entry.blocks) - _parts(anchor.blocks)
    low, high = mstats.trimmed_mean_ci(logs, (TRIMMED, TRIMMED))
    return dataclasses.replace(entry, interval=Interval(*map(math.exp, ((low + high) / 2, low, high))))


def _parts(blocks: Sequence[float]) -> NDArray[np.float64]:
    """Return the logarithm of the location of each of `PARTS` parts of the visits; parts of two models ran in turns."""
    return np.array([np.log(np.quantile(part, QUANTILE)) for part in np.array_split(blocks, PARTS)])

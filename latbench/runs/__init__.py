"""Two runs compared: records of ``latbench measure``, or whole profiles."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latbench.errors import UsageError, did_you_mean
from latbench.measure.estimate import Z_95
from latbench.measure.one_model.record import read_records
from latbench.records.measurement import Conditions
from latbench.records.profile import Profile
from latbench.runs.verdict import Interval, Ratio, mean_ratio, ratio
from latbench.space import SpaceSpec
from latbench.store import Store

_MEDIAN = 1.2533
"""Standard error of a median, relative to that of a mean."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One measured subject of a run.

    Args:
        subject: a model's name, or an architecture's string form.
        conditions: what it was measured under.
        interval: its value.
        more: facts that the conditions do not hold and that must be equal too: the inputs' shapes, the search space.
    """

    subject: str
    conditions: Conditions
    interval: Interval
    more: Mapping[str, str] = field(default_factory=dict)

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
    """

    name: str
    entries: tuple[Entry, ...]
    is_profile: bool = False
    common_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A subject of both runs.

    Args:
        a: before.
        b: after.
        ratio: ``b / a``; None where they are not comparable.
        differences: the fields that are to blame.
        apart: what tells the subject from others of its name in one of the runs: ``"batch 8"``.
    """

    a: Entry
    b: Entry
    ratio: Ratio | None
    differences: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The subject, with what tells it apart: ``"net.onnx, batch 8"``."""
        return ", ".join((self.a.subject, *self.apart))

    def why_not(self) -> str:
        """Return ``"not comparable: field threads (1, 2)"``."""
        fields = [f"{name} ({self.a.fact(name)}, {self.b.fact(name)})" for name in self.differences]
        return f"not comparable: field{'s' if len(fields) > 1 else ''} {', '.join(fields)}"


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs compared.

    Args:
        rows: the subjects of both.
        only_a: subjects that `b` lacks.
        only_b: subjects that `a` lacks.
        mean: the geometric mean of the ratios of two profiles.
    """

    rows: tuple[Comparison, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    mean: Ratio | None = None


def read_run(path: str | Path, quantity: str | None = None) -> Run:
    """Read the records that ``latbench measure --out`` or ``--json`` wrote (.json), or a store of ``latbench profile``.

    Args:
        path: the file.
        quantity: which one of a store (`latbench.store.Store`).

    Raises:
        StoreError: the file is missing, or is neither.
    """
    path = Path(path)
    if path.suffix == ".json":
        entries = (
            Entry(
                record.measurement.subject,
                record.conditions,
                Interval(record.measurement.value, record.measurement.low, record.measurement.high),
                {"inputs": ", ".join(f"{name}:{shape}" for name, shape in record.inputs.items())},
            )
            for record in read_records(path)
        )
        return Run(path.name, tuple(entries))
    with Store(path, quantity=quantity) as store:
        return profile_run(store.profile(), path.name)


def profile_run(profile: Profile, name: str) -> Run:
    """Return the first measurement of every architecture of a profile, with the drift between sessions divided out."""
    space = {"space": str(SpaceSpec.of(profile.space))}
    scaled = (m.scaled_to(profile.reference) for m in profile.first)
    entries = (Entry(m.subject, profile.conditions, Interval(m.value, m.low, m.high), space) for m in scaled)
    return Run(name, tuple(entries), is_profile=True, common_error=_reference_error(profile))


def _reference_error(profile: Profile) -> float:
    """Return the standard error of the logarithm of a profile's reference, the median of its sessions'."""
    references = {m.session: m.reference for m in profile.measurements if m.reference is not None}
    if not references:
        return 0.0
    if len(references) > 1:
        return _MEDIAN * float(np.log(list(references.values())).std(ddof=1)) / math.sqrt(len(references))
    # One session does not tell how far another would differ; the interval of a single value does.
    return float(np.median([m.half_width for m in profile.first])) / Z_95 if profile.first else 0.0


def compare_runs(a: Run, b: Run, *, ignore: Collection[str] = ()) -> RunComparison:
    """Compare the common subjects of two runs.

    Args:
        a: the run before.
        b: the run after; ratios are ``b / a``.
        ignore: fields that may differ: ``"threads"``, ``"device"`` with all its facts, ``"device.driver"``,
            ``"inputs"``; without ``"backend"`` and ``"subject"`` only equal ones are compared.

    Raises:
        UsageError: there is no common subject, no common subject is comparable, or `ignore` names an unknown field.
        DataError: a value is not positive.
    """
    apart = _told_apart_by(a, b)
    mine, theirs = _by_key(a, ignore, apart), _by_key(b, ignore, apart)
    common = [key for key in mine if key in theirs]
    _check_fields(ignore, [*mine.values(), *theirs.values()])
    if not common:
        raise UsageError(_nothing_common(a, b))
    common_error = math.hypot(a.common_error, b.common_error)
    rows = tuple(_compare(mine[key], theirs[key], common_error, ignore, apart) for key in common)
    ratios = [row.ratio for row in rows if row.ratio is not None]
    if not ratios:
        fields = dict.fromkeys(name for row in rows for name in row.differences)
        if "quantity" in fields:
            raise UsageError(f"{rows[0].why_not()}: compare runs of one quantity; --quantity chooses that of a store")
        flags = " ".join(f"--ignore {name}" for name in fields)
        raise UsageError(f"{rows[0].why_not()}: measure again with equal fields, or compare anyway with {flags}")
    return RunComparison(
        rows,
        tuple(entry.subject for key, entry in mine.items() if key not in theirs),
        tuple(entry.subject for key, entry in theirs.items() if key not in mine),
        mean_ratio(ratios, common_error) if a.is_profile else None,
    )


def _compare(a: Entry, b: Entry, common_error: float, ignore: Collection[str], apart: Collection[str]) -> Comparison:
    differences = [name for name in a.differences(b) if name not in ignore and name.partition(".")[0] not in ignore]
    value = None if differences else ratio(a.interval, b.interval, common_error)
    return Comparison(a, b, value, tuple(differences), tuple(f"{name} {a.fact(name)}" for name in apart))


def _told_apart_by(*runs: Run) -> list[str]:
    """Return the conditions of which a run has several for one subject on one backend."""
    found: set[str] = set()
    for run in runs:
        first: dict[tuple[str, str], Entry] = {}
        for entry in run.entries:
            other = first.setdefault((entry.subject, entry.conditions.backend), entry)
            found |= {name for name in ("batch", "threads") if entry.fact(name) != other.fact(name)}
    return sorted(found)


def _by_key(run: Run, ignore: Collection[str], apart: Collection[str]) -> dict[tuple[str, ...], Entry]:
    """Return the entries of a run by what must be equal in the other one."""
    entries: dict[tuple[str, ...], Entry] = {}
    for entry in run.entries:
        parts = {"subject": entry.subject, "backend": entry.conditions.backend}
        parts |= {name: str(entry.fact(name)) for name in apart}
        key = tuple(part for name, part in parts.items() if name not in ignore)
        if key in entries:
            ignored = " and ".join(sorted(parts.keys() & set(ignore)))
            raise UsageError(
                f"{run.name} holds several of {entry.subject!r}"
                + (f" once {ignored} is ignored: measure one alone" if ignored else ": keep one of them")
            )
        entries[key] = entry
    return entries


def _check_fields(ignore: Collection[str], entries: Sequence[Entry]) -> None:
    known = {"subject", "device"}
    for entry in entries[:1]:
        known |= {*entry.conditions.to_json(), *entry.more}
    known |= {f"device.{name}" for entry in entries for name in ("name", "kind", *entry.conditions.device.facts)}
    for name in ignore:
        if name in ("quantity", "unit"):
            raise UsageError(f"--ignore {name}: different quantities have no ratio: compare runs of one quantity")
        if name not in known:
            raise UsageError(f"no field named {name!r}: {did_you_mean(name, sorted(known))}")


def _nothing_common(a: Run, b: Run) -> str:
    if not (a.entries and b.entries):
        return f"{(b if a.entries else a).name} holds no measurement: measure first"
    subjects = [{entry.subject for entry in run.entries} for run in (a, b)]
    if subjects[0] & subjects[1]:
        backends = [", ".join(dict.fromkeys(e.conditions.backend for e in run.entries)) for run in (a, b)]
        return (
            f"not comparable: field backend ({backends[0]} in A, {backends[1]} in B): "
            "compare anyway with --ignore backend"
        )
    shown = [f"{run.name} holds {_some(run)}" for run in (a, b)]
    return f"nothing to compare: {', '.join(shown)}; --ignore subject compares one with the other"


def _some(run: Run) -> str:
    first = run.entries[0].subject
    return repr(first) if len(run.entries) == 1 else f"{first!r} and {len(run.entries) - 1} more"

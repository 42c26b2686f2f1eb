"""Two runs compared: records of ``latbench measure``, or whole profiles."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from latbench.errors import UsageError, did_you_mean
from latbench.runs.run import Entry, Run, profile_run, read_run, relative_to_anchor, relative_to_references
from latbench.runs.verdict import WORSE, Ratio, mean_ratio, ratio

__all__ = [
    "Comparison",
    "Entry",
    "Run",
    "RunComparison",
    "compare_runs",
    "profile_run",
    "read_run",
    "relative_to_anchor",
    "relative_to_references",
]


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
        references: how the references of two profiles moved, which were measured in the same sessions.
    """

    rows: tuple[Comparison, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    mean: Ratio | None = None
    references: Ratio | None = None

    def failures(self, tolerance: float) -> Iterator[str]:
        """Yield in words why a change from `a` to `b` should not pass; UNCLEAR is no reason.

        Of two profiles, the mean counts. A subject that only `a` holds, or that is not comparable, fails.

        Args:
            tolerance: how much still counts as the same (`latbench.runs.verdict.Ratio.verdict`).
        """
        quantity = self.rows[0].a.conditions.quantity
        if self.mean is not None:
            if (verdict := self.mean.verdict(tolerance, quantity=quantity)) in WORSE:
                yield f"the mean is {verdict}, {self.mean.value - 1:+.1%}"
            return
        for row in self.rows:
            name = f"{row.name}, {row.a.conditions.backend}"
            if row.ratio is None:
                yield f"{name}: {row.why_not()}"
            elif (verdict := row.ratio.verdict(tolerance, quantity=quantity)) in WORSE:
                yield f"{name} is {verdict}, {row.ratio.value - 1:+.1%}"
        for subject in self.only_a:
            yield f"{subject} is missing in B"


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
    if a.relative_to != b.relative_to:
        names = [run.relative_to or "no anchor" for run in (a, b)]
        raise UsageError(f"A is relative to {names[0]} and B to {names[1]}: give both the same")
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
        ratio(a.reference, b.reference) if a.reference and b.reference else None,
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

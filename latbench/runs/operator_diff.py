"""Which operators take longer on one of two backends, or in one of two files.

Runtimes fuse operators, and each does it differently. So what is compared are the smallest groups of operators that
compute the same: operators that share one of the file's belong together, `latbench.backend.OperatorTime.nodes`. What no
name joins, as where one runtime runs the module and the other one its file, is joined by its type and its shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from latbench.backend import OperatorTime
from latbench.errors import UsageError
from latbench.measure.one_model.record import ModelRecord, read_records
from latbench.measure.one_model.table import name_of


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """Operators of A and those of B that compute the same; nothing on one side where only the other one has them.

    Args:
        name: of the file's operators that both compute, or their type and shapes.
        types: in A and in B, where they differ.
        a_ms: milliseconds in A; None where it has no such operator.
        b_ms: milliseconds in B; None likewise.
        a_count: how many operators of A.
        b_count: how many operators of B.
    """

    name: str
    types: str
    a_ms: float | None
    b_ms: float | None
    a_count: int
    b_count: int

    @property
    def difference_ms(self) -> float:
        """How much longer B takes."""
        return (self.b_ms or 0.0) - (self.a_ms or 0.0)

    @property
    def ratio(self) -> float | None:
        """B relative to A; None where one of them is missing or takes no time."""
        return self.b_ms / self.a_ms if self.a_ms and self.b_ms else None


@dataclass(frozen=True, slots=True)
class OperatorDiff:
    """Two records' operators compared.

    Args:
        a: a record with operators.
        b: the other one.
        rows: the largest difference first.
    """

    a: ModelRecord
    b: ModelRecord
    rows: tuple[OperatorRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        sides = {
            side: {
                "model": record.subject,
                "backend": record.conditions.backend,
                "latency_ms": record.value,
                "profiled_ms": sum(time.ms for time in record.inspection.operators),
            }
            for side, record in (("a", self.a), ("b", self.b))
        }
        rows = [{**asdict(row), "difference_ms": row.difference_ms, "ratio": row.ratio} for row in self.rows]
        return {**sides, "rows": rows}


def diff_operators(a: ModelRecord, b: ModelRecord) -> OperatorDiff:
    """Compare the operators of two records.

    Raises:
        UsageError: one of them has none.
    """
    for record in (a, b):
        if not record.inspection.operators:
            raise UsageError(
                f"{name_of(record)} has no operator times: measure it with --operators, on a backend that tells them"
            )
    mine, theirs = list(a.inspection.operators), list(b.inspection.operators)
    rows = list(_by_nodes(mine, theirs))
    for key in (_type_and_shapes, _type_and_first_shape):
        rows += _by_key(mine, theirs, key)
    rows += [_row(_label([time]), [time], []) for time in mine]
    rows += [_row(_label([time]), [], [time]) for time in theirs]
    return OperatorDiff(a, b, tuple(sorted(rows, key=lambda row: -abs(row.difference_ms))))


def two_records(paths: Sequence[str | Path], backends: Sequence[str] = ()) -> tuple[ModelRecord, ModelRecord]:
    """Read the two records that one file holds, or the one of each of two files.

    Args:
        paths: one or two files of ``latbench measure --operators --out``.
        backends: leaves the records of other ones out.

    Raises:
        UsageError: there are more or fewer.
        StoreError: a file cannot be read.
    """
    found = [
        (path, [r for r in read_records(path) if not backends or r.conditions.backend in backends]) for path in paths
    ]
    wanted = 2 // len(found)
    for path, records in found:
        if len(records) != wanted:
            held = "; ".join(map(name_of, records)) or "none"
            raise UsageError(
                f"{path} holds {len(records)} records, and {wanted} {'are' if wanted > 1 else 'is'} compared ({held}): "
                "choose with --backend, or measure what is to be compared into a file of its own"
            )
    one, other = (record for _, records in found for record in records)
    return one, other


@dataclass(frozen=True, slots=True)
class _Group:
    """Operators of A and of B that compute some of the file's operators, and no others do."""

    nodes: frozenset[str] = frozenset()
    of_a: tuple[OperatorTime, ...] = ()
    of_b: tuple[OperatorTime, ...] = ()

    def joined(self, other: _Group) -> _Group:
        return _Group(self.nodes | other.nodes, self.of_a + other.of_a, self.of_b + other.of_b)


def _by_nodes(mine: list[OperatorTime], theirs: list[OperatorTime]) -> Iterator[OperatorRow]:
    """Take out the groups of operators that share operators of the file, and yield their rows."""
    single = [_Group(frozenset(_nodes(time)), of_a=(time,)) for time in mine]
    single += [_Group(frozenset(_nodes(time)), of_b=(time,)) for time in theirs]
    groups: list[_Group] = []
    for new in single:
        overlapping = [group for group in groups if group.nodes & new.nodes]
        groups = [group for group in groups if not group.nodes & new.nodes]
        groups.append(reduce(_Group.joined, overlapping, new))
    for group in groups:
        if group.of_a and group.of_b:
            in_a, in_b = _named(group.of_a), _named(group.of_b)
            # The side that tells fewer of the operators that it has fused gives the shorter name.
            yield _row(" + ".join(in_a if len(in_a) <= len(in_b) else in_b), group.of_a, group.of_b)
            _remove(mine, group.of_a)
            _remove(theirs, group.of_b)


def _by_key(
    mine: list[OperatorTime], theirs: list[OperatorTime], key: Callable[[OperatorTime], str]
) -> Iterator[OperatorRow]:
    """Take out the groups of operators with the same key on both sides, and yield their rows."""
    for shared in dict.fromkeys(filter(None, map(key, mine))):
        of_a = [time for time in mine if key(time) == shared]
        of_b = [time for time in theirs if key(time) == shared]
        if of_b:
            yield _row(_label(of_a), of_a, of_b)
            _remove(mine, of_a)
            _remove(theirs, of_b)


def _remove(times: list[OperatorTime], taken: Iterable[OperatorTime]) -> None:
    gone = {id(time) for time in taken}
    times[:] = [time for time in times if id(time) not in gone]


def _row(name: str, of_a: Sequence[OperatorTime], of_b: Sequence[OperatorTime]) -> OperatorRow:
    types = [" + ".join(dict.fromkeys(time.type for time in times)) for times in (of_a, of_b) if times]
    a_ms, b_ms = (sum(time.ms for time in times) if times else None for times in (of_a, of_b))
    return OperatorRow(name, " / ".join(dict.fromkeys(types)), a_ms, b_ms, len(of_a), len(of_b))


def _label(times: Sequence[OperatorTime]) -> str:
    """Return a name that tells operators without a common one apart."""
    first = times[0]
    return f"{first.type} {first.shapes}" if first.shapes else first.name or first.type


def _nodes(time: OperatorTime) -> tuple[str, ...]:
    # Where a runtime knows no names, the shapes are the name, and many operators have the same.
    names = time.nodes or (() if time.name == time.shapes else (time.name,))
    return tuple(filter(None, names))


def _named(times: Iterable[OperatorTime]) -> list[str]:
    return list(dict.fromkeys(name for time in times for name in _nodes(time)))


def _type_and_shapes(time: OperatorTime) -> str:
    return f"{_general(time.type)} {time.shapes}" if time.shapes else ""


def _type_and_first_shape(time: OperatorTime) -> str:
    # Some runtimes count weights among the inputs, and some do not.
    return f"{_general(time.type)} {time.shapes.partition(',')[0]}" if time.shapes else ""


def _general(kind: str) -> str:
    """Return one word for what runtimes call by several: ``conv2d``, ``Conv``, ``Convolution``."""
    word = re.sub(r"\dd$|[^a-z0-9]", "", kind.lower())
    return _WORDS.get(word, word)


_WORDS = {
    word: general
    for general, words in {
        "conv": "convolution fusedconv nhwcfusedconv",
        "gemm": "linear fullyconnected matmul addmm fusedmatmul fusedgemm innerproduct mm bmm",
        "norm": "batchnorm batchnormalization layernorm layernormalization groupnorm",
        "pool": "globalaveragepool averagepool avgpool adaptiveavgpool maxpool pooling globalmaxpool",
        "add": "sum",
        "concat": "cat concatenation",
        "transpose": "permute",
        "clip": "hardtanh clamp relu6",
    }.items()
    for word in words.split()
}
"""Types of operators as runtimes and torch call them, in lower case and without the number of dimensions."""

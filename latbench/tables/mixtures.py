"""Rows that are not what they seem: copies of others, measurements of several devices, values in two units."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.tables.file import is_number

FAR = 0.25
"""No repeats of one measurement differ by so much in the median, whatever the column is called that splits them."""
NOTED = 0.1
"""Repeats that differ by more than this in the median are more often measurements of different things."""
APART = 0.05
"""Rows that a text such as a device's name splits are no repeats if they differ by more than this."""
SHIFTED = 0.01
"""Nor if they differ by more than this, and all in one direction."""
GAP = 20.0
"""A measured quantity of one space's architectures has no gap so wide: ratio of neighbours in size."""

_REPEATS = re.compile(
    r"(?i)(?:^|[^a-z])(?:runs?|reps?|repeats?|repetitions?|replicates?|trials?|rounds?|iter|iterations?|sessions?|seeds?"
    r"|dates?|times?|timestamps?|created|measurements?)(?:$|[^a-z])"
)
"""Names of columns that tell repeats apart."""

FEWEST = 3
"""Pairs of rows that a verdict on a column needs."""
MOST = 12
"""Rows of one architecture that are compared with one another."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a foreign table.

    Args:
        subjects: the architectures.
        values: what was measured.
        others: the texts of the other columns.
    """

    subjects: Sequence[str]
    values: Sequence[float]
    others: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Split:
    """A column whose cells divide the rows of one architecture.

    Args:
        column: its name.
        levels: its cells, in order of appearance.
        difference: how much values of one architecture differ across them: the median, relative.
        is_mixture: whether these are different things that were measured, rather than repeats of one.
    """

    column: str
    levels: tuple[str, ...]
    difference: float
    is_mixture: bool


def row_numbers(others: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the columns that count the rows of a table, which tell nothing about them."""
    return {name for name, cells in others.items() if _counts(cells)}


def copies(rows: Rows) -> set[int]:
    """Return the rows that equal an earlier one in every cell: they repeat its text, and no measurement."""
    seen: set[tuple[object, ...]] = set()
    found = set()
    for index, key in enumerate(zip(rows.subjects, rows.values, *rows.others.values(), strict=True)):
        if key in seen:
            found.add(index)
        seen.add(key)
    return found


def splits(rows: Rows) -> list[Split]:
    """Return the columns by which the rows of one architecture differ, as far as they have few different cells."""
    pairs, changes = _repeats(rows)
    if not len(pairs):
        return []
    measured = np.unique(pairs)
    levels = {name: tuple(dict.fromkeys(cells[row] for row in measured)) for name, cells in rows.others.items()}
    levels = {name: known for name, known in levels.items() if 2 <= len(known) <= len(measured) / 2}
    steps = {name: _steps(rows.others[name], known, pairs) for name, known in levels.items()}
    differing = np.sum([step != 0 for step in steps.values()], axis=0)
    repeats = changes[differing == 0]
    found = []
    for name, step in steps.items():
        alone = (step != 0) & (differing == 1)
        across = alone if alone.sum() >= FEWEST else step != 0
        if across.sum() >= FEWEST:
            found.append(_split(name, levels[name], changes[across] * np.sign(step[across]), repeats))
    return found


def disagreement(rows: Rows) -> float:
    """Return how much an architecture's later values differ from its first: the median, relative; 0 without repeats."""
    _, changes = _repeats(rows)
    return float(np.expm1(np.median(np.abs(changes)))) if len(changes) else 0.0


def where_flags(splits: Sequence[Split]) -> str:
    """Return the options that keep the rows of the first of what was measured."""
    return " ".join(f"--where {shlex.quote(f'{split.column}={split.levels[0]}')}" for split in splits)


@dataclass(frozen=True, slots=True)
class TwoSizes:
    """Values with a wide gap between them.

    Args:
        smaller: how many lie below it.
        larger: how many lie above.
        below: the largest of the smaller ones.
        above: the smallest of the larger ones.
        ratio: of their medians.
    """

    smaller: int
    larger: int
    below: float
    above: float
    ratio: float

    @property
    def are_units(self) -> bool:
        """Whether the values are in two units, which differ by a thousand or a million, rather than some far off."""
        share = min(self.smaller, self.larger)
        return (
            share >= 2
            and share >= (self.smaller + self.larger) / 10
            and any(step / 5 <= self.ratio <= step * 5 for step in (1e3, 1e6))
        )


def two_sizes(values: Sequence[float]) -> TwoSizes | None:
    """Return the widest gap between positive values, if it is wider than `GAP`."""
    ordered = np.sort(np.asarray(values, dtype=float))
    steps = ordered[1:] / ordered[:-1]
    if not len(steps) or steps.max() < GAP:
        return None
    at = int(steps.argmax()) + 1
    smaller, larger = ordered[:at], ordered[at:]
    ratio = float(np.median(larger) / np.median(smaller))
    return TwoSizes(len(smaller), len(larger), float(smaller[-1]), float(larger[0]), ratio)


def _repeats(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs of rows of one architecture ``(pairs, 2)``, and the log ratios of their values."""
    groups: dict[str, list[int]] = {}
    for index, subject in enumerate(rows.subjects):
        groups.setdefault(subject, []).append(index)
    found = [pair for group in groups.values() for pair in itertools.combinations(group[:MOST], 2)]
    pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
    logs = np.log(np.asarray(rows.values, dtype=np.float64))
    return pairs, logs[pairs[:, 1]] - logs[pairs[:, 0]]


def _steps(cells: Sequence[str], levels: Sequence[str], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return by how many levels the second row of each pair lies behind the first ``(pairs,)``."""
    number = {level: index for index, level in enumerate(levels)}
    level = np.array([number.get(cell, -1) for cell in cells], dtype=np.int64)
    steps: NDArray[np.int64] = level[pairs[:, 1]] - level[pairs[:, 0]]
    return steps


def _split(name: str, levels: tuple[str, ...], changes: NDArray[np.float64], repeats: NDArray[np.float64]) -> Split:
    """Return what a column is, from the changes across its levels and those between rows that no column splits."""
    difference = float(np.expm1(np.median(np.abs(changes))))
    is_shifted = difference > SHIFTED and abs(changes.mean()) > 3 * changes.std(ddof=1) / np.sqrt(len(changes))
    if _REPEATS.search(name):
        is_mixture = difference > FAR
    elif all(map(is_number, levels)):
        is_mixture = difference > FAR or (difference > APART and is_shifted)
    else:
        is_mixture = difference > APART or is_shifted
    # Where there are repeats besides, they say how much repeats differ.
    differs = len(repeats) < FEWEST or np.median(np.abs(changes)) > 3 * np.median(np.abs(repeats)) or is_shifted
    return Split(name, levels, difference, bool(differs and is_mixture))


def _counts(cells: Sequence[str]) -> bool:
    numbers: Iterator[str] = iter(cells)
    first = next(numbers, "")
    return first in ("0", "1") and all(cell == str(int(first) + step) for step, cell in enumerate(numbers, start=1))

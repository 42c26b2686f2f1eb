"""The decisions of a space side by side: which of them are made, and which columns they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ParseError, ShapeError, UsageError, did_you_mean
from latbench.space import Column
from latbench.spaces.choices.decision import ABSENT, Decision, Ordinal
from latbench.spaces.settings import Setting


@dataclass(frozen=True, slots=True, repr=False)
class Choices(Mapping[str, Any]):
    """An architecture: the values of the decisions that it makes, by name; `str` and `repr` are its text.

    Args:
        pairs: names and values, in the order of the space's decisions.
    """

    pairs: tuple[tuple[str, Setting], ...]

    def __getitem__(self, name: str) -> Any:
        for own, value in self.pairs:
            if own == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.pairs)


class Layout:
    """What follows from a list of decisions.

    Args:
        decisions: in the order in which they are made.

    Raises:
        UsageError: two decisions have one name, or one depends on a value that is not decided before it.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self.decisions = tuple(decisions)
        self.index: dict[str, int] = {}
        self.conditions: list[tuple[int, tuple[int, ...]] | None] = []
        for position, decision in enumerate(self.decisions):
            if decision.name in self.index:
                raise UsageError(f"two decisions are called {decision.name!r}: give each a name of its own")
            self.conditions.append(self._condition(decision))
            self.index[decision.name] = position
        self.columns = tuple(column for decision in self.decisions for column in _columns(decision))
        self._decides = {self.decisions[condition[0]].name for condition in self.conditions if condition}

    def choices(self, values: Mapping[str, Setting]) -> Choices:
        """Return the architecture of these values.

        Raises:
            ParseError: a decision is missing, unknown or not made, or cannot have its value.
        """
        self.check_names(values)
        # A lookup in an architecture goes through its pairs.
        values = dict(values.pairs) if isinstance(values, Choices) else values
        found: dict[str, Setting] = {}
        for decision in self.decisions:
            if self.is_made(decision, found):
                if decision.name not in values:
                    raise ParseError(f"{decision.name} is missing: give one of {_options(decision)}")
                found[decision.name] = self._read(decision, values[decision.name])
            elif decision.name in values:
                raise ParseError(f"{decision.name} is not decided {_unmet(decision, found)}: leave it out")
        return Choices(tuple(found.items()))

    def parse(self, text: str) -> Choices:
        """Parse ``name=value,name=value``.

        Raises:
            ParseError: the message names the decision.
        """
        values: dict[str, Setting] = {}
        for pair in text.strip().split(","):
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not equals:
                raise ParseError(f"{pair.strip()!r} is not a decision: write name=value, joined by commas")
            if name in values:
                raise ParseError(f"{name} is given twice: give it once")
            self.check_names([name])
            values[name] = self.decisions[self.index[name]].parse(value)
        return self.choices(values)

    def encode(self, architectures: Sequence[Mapping[str, Setting]]) -> NDArray[np.float32]:
        """Return encodings ``(n, columns)``."""
        rows = np.zeros((len(architectures), len(self.columns)), dtype=np.float32)
        for row, choices in zip(rows, map(self.choices, architectures), strict=True):
            values = dict(choices.pairs)
            for decision, columns in self.slices():
                if decision.name in values:
                    weights = decision.weights(values[decision.name])
                    row[columns.start : columns.start + len(weights)] = weights
                else:
                    row[columns.stop - 1] = 1
        return rows

    def decode(self, encoding: NDArray[np.floating]) -> Choices:
        """Return the architecture of one encoding ``(columns,)``.

        Raises:
            ShapeError: the encoding has another length.
            ParseError: it is not that of an architecture.
        """
        encoding = np.asarray(encoding)
        if encoding.shape != (len(self.columns),):
            raise ShapeError(f"an encoding has the shape ({len(self.columns)},), not {encoding.shape}: give one row")
        values = {}
        for decision, columns in self.slices():
            weights = [float(weight) for weight in encoding[columns]]
            absent = weights.pop() if decision.when is not None else 0.0
            if absent != 1 or any(weights):
                if absent:
                    raise ParseError(f"{decision} is {absent:g} {ABSENT}: an architecture makes it (0) or does not (1)")
                values[decision.name] = decision.value(weights)
        return self.choices(values)

    def is_made(self, decision: Decision, choices: Mapping[str, Setting]) -> bool:
        """Whether a decision is made after these earlier ones."""
        return decision.when is None or choices.get(decision.when[0]) in decision.when[1]

    def check_names(self, names: Iterable[str]) -> None:
        """Check that there are decisions of these names.

        Raises:
            ParseError: there is none of a name.
        """
        for name in names:
            if name not in self.index:
                raise ParseError(f"no decision {name!r}: {did_you_mean(name, self.index)}")

    def slices(self) -> Iterator[tuple[Decision, slice]]:
        """Yield the decisions with their columns, the one for absent last."""
        start = 0
        for decision in self.decisions:
            stop = start + len(decision.options) + (decision.when is not None)
            yield decision, slice(start, stop)
            start = stop

    def _read(self, decision: Decision, value: Setting) -> Setting:
        value = decision.read(value)
        if decision.name in self._decides and value not in decision.options:
            raise ParseError(f"{decision.name}={value}: decisions depend on it, so give one of {_knots(decision)}")
        return value

    def _condition(self, decision: Decision) -> tuple[int, tuple[int, ...]] | None:
        if decision.when is None:
            return None
        name, values = decision.when
        if name not in self.index:
            raise UsageError(f"{decision} depends on {name!r}: list a decision of that name before it")
        earlier = self.decisions[self.index[name]]
        for value in values:
            if value not in earlier.options:
                raise UsageError(f"{decision} depends on {name}={value}: name one of {_knots(earlier)}")
        return self.index[name], tuple(earlier.options.index(value) for value in values)


def _columns(decision: Decision) -> Iterator[Column]:
    group = decision.name if decision.group is None else decision.group
    for option in (*decision.options, *((ABSENT,) if decision.when is not None else ())):
        yield Column(f"{decision.name}/{option}", f"{group}/{option}")


def _knots(decision: Decision) -> str:
    return ", ".join(map(str, decision.options))


def _options(decision: Decision) -> str:
    between = " or a number between" if isinstance(decision, Ordinal) and len(decision.options) > 1 else ""
    return _knots(decision) + between


def _unmet(decision: Decision, choices: Mapping[str, Setting]) -> str:
    assert decision.when is not None
    name = decision.when[0]
    return f"where {name}={choices[name]}" if name in choices else f"where {name} is not"

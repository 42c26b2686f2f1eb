"""What an architecture decides: one of some options, or a number on a scale."""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from latbench.errors import ParseError, UsageError
from latbench.spaces.settings import Setting

if TYPE_CHECKING:
    from torch import Tensor

ABSENT = "absent"
"""The column of a decision that is not made: the kernel of a block that is not there."""

When = tuple[str, Sequence[Setting]]
"""The name of an earlier decision, and the values of it with which this one is made."""


class Decision(ABC):
    """One decision: its name, its options, and when it is made."""

    __slots__ = ()
    name: str
    group: str | None
    when: When | None

    if TYPE_CHECKING:  # a field or a property: a dataclass would take an inherited property for a default

        @property
        def options(self) -> Sequence[Setting]:
            """The values that have a column each."""

    @abstractmethod
    def read(self, value: Setting) -> Setting:
        """Return a value in the decision's own form, such as 3 for 3.0.

        Raises:
            ParseError: the decision cannot have it.
        """

    @abstractmethod
    def parse(self, text: str) -> Setting:
        """Parse the text of a value.

        Raises:
            ParseError: it is not the text of a value.
        """

    @abstractmethod
    def weights(self, value: Setting) -> list[float]:
        """Return the weight of each option's column for a value; they sum to 1.

        Raises:
            ParseError: the decision cannot have it.
        """

    @abstractmethod
    def value(self, weights: Sequence[float]) -> Setting:
        """Return the value that has these weights.

        Raises:
            ParseError: no value has them.
        """

    def __str__(self) -> str:
        return f"decision {self.name!r}"

    def _check(self) -> None:
        """Refuse what would make texts or columns ambiguous, and turn sequences into tuples."""
        _check_text(f"the name {self.name!r}", self.name, ",=#/")
        if not self.options:
            raise UsageError(f"{self} has no options: give at least one")
        for option in self.options:
            if type(option) not in (str, int, float, bool):
                raise UsageError(f"{self} has the option {option!r}: give str, int, float or bool")
            _check_text(f"option {option!r} of {self}", str(option), ",=#")
        if min(len(set(self.options)), len(set(map(str, self.options)))) < len(self.options):
            raise UsageError(f"{self} has two equal options in {self.options}: give each once")
        if self.when is not None:
            object.__setattr__(self, "when", _checked_when(self, self.when))
            if ABSENT in self.options:
                raise UsageError(f"{self} has the option {ABSENT!r}, which means that it is not made: rename it")


@dataclass(frozen=True, slots=True)
class Choice(Decision):
    """A choice among named options.

    Args:
        name: of the decision.
        options: text, integers, numbers or booleans.
        group: decisions of one group do the same elsewhere: few-sample predictors shrink their costs together.
        when: makes the decision only where an earlier one has one of these values: ``("depth", (3, 4))``.

    Raises:
        UsageError: the name or the options could not be told apart in a text.
    """

    name: str
    options: Sequence[Setting]
    group: str | None = field(default=None, kw_only=True)
    when: When | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        self._check()

    def read(self, value: Setting) -> Setting:
        """Return an option."""
        return self.options[self._index(value)]

    def parse(self, text: str) -> Setting:
        """Parse the text of an option."""
        by_text = {str(option): option for option in self.options}
        if text not in by_text:
            raise ParseError(f"{self.name}={text}: choose one of {', '.join(by_text)}")
        return by_text[text]

    def weights(self, value: Setting) -> list[float]:
        """Return 1 for the option, 0 for the others."""
        index = self._index(value)
        return [float(index == other) for other in range(len(self.options))]

    def value(self, weights: Sequence[float]) -> Setting:
        """Return the option whose weight is 1."""
        if sorted(weights) != [0.0] * (len(weights) - 1) + [1.0]:
            raise ParseError(f"{self} is {list(weights)}, not one-hot: an architecture has one of its options")
        return self.options[list(weights).index(1)]

    def _index(self, value: Setting) -> int:
        if value not in self.options:
            raise ParseError(f"{self.name}={value}: choose one of {', '.join(map(str, self.options))}")
        return self.options.index(value)


@dataclass(frozen=True, slots=True)
class Ordinal(Decision):
    """A number: a width, a depth, a resolution. Between two knots it weighs both, by distance.

    Args:
        name: of the decision.
        knots: increasing numbers; each has a column, and is drawn by `ChoiceSpace.sample`.
        group: as for `Choice`.
        when: as for `Choice`.

    Raises:
        UsageError: the knots do not increase, or the name could not be told apart in a text.
    """

    name: str
    knots: Sequence[int | float]
    group: str | None = field(default=None, kw_only=True)
    when: When | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", tuple(self.knots))
        numbers = all(type(knot) in (int, float) and math.isfinite(knot) for knot in self.knots)
        if not numbers or any(low >= high for low, high in zip(self.knots, self.knots[1:], strict=False)):
            raise UsageError(f"{self} has the knots {self.knots}: give numbers that increase")
        self._check()

    @property
    def options(self) -> Sequence[int | float]:
        """The knots."""
        return self.knots

    def read(self, value: Setting) -> int | float:
        """Return a number between the knots, as an integer if it is one and the knots are."""
        if isinstance(value, bool | str) or not self.knots[0] <= value <= self.knots[-1]:
            raise ParseError(f"{self.name}={value}: give a number from {self.knots[0]} to {self.knots[-1]}")
        whole = all(isinstance(knot, int) for knot in self.knots) and float(value).is_integer()
        return int(value) if whole else float(value)

    def parse(self, text: str) -> int | float:
        """Parse a number between the knots."""
        try:
            return self.read(float(text))
        except ValueError:
            raise ParseError(
                f"{self.name}={text} is not a number: give one from {self.knots[0]} to {self.knots[-1]}"
            ) from None

    def weights(self, value: Setting) -> list[float]:
        """Return hat weights: 1 on a knot; between two knots, those that interpolate the value."""
        number = self.read(value)
        weights = [0.0] * len(self.knots)
        upper = bisect.bisect_left(self.knots, number)
        if self.knots[upper] == number:
            weights[upper] = 1.0
            return weights
        low, high = self.knots[upper - 1], self.knots[upper]
        weights[upper] = (number - low) / (high - low)
        weights[upper - 1] = 1 - weights[upper]
        return weights

    def value(self, weights: Sequence[float]) -> int | float:
        """Return the number that has these hat weights, to the six digits that float32 keeps."""
        used = [index for index, weight in enumerate(weights) if weight]
        if min(weights) < 0 or abs(sum(weights) - 1) > 1e-5 or not used or used[-1] - used[0] > 1:
            raise ParseError(
                f"{self} is {list(weights)}: a number has weights on one knot or on two neighbouring ones that sum to 1"
            )
        if len(used) == 1:
            return self.knots[used[0]]
        number = sum(weight * knot for weight, knot in zip(weights, self.knots, strict=True))
        return self.read(min(max(float(f"{number:.6g}"), self.knots[0]), self.knots[-1]))

    def hat(self, value: Tensor) -> Tensor:
        """Return hat weights ``(..., knots)`` of numbers ``(...)``, differentiably; at a knot the slope above it.

        Raises:
            UsageError: a number lies outside the knots.
        """
        import torch
        from torch.nn import functional

        if value.device.type != "meta" and not ((value >= self.knots[0]) & (value <= self.knots[-1])).all():
            raise UsageError(
                f"{self} is {value.tolist()}: keep it in {self.knots[0]} to {self.knots[-1]}, by clamp_() after a step"
            )
        knots = torch.tensor(self.knots, dtype=value.dtype, device=value.device)
        if len(knots) == 1:
            return torch.ones_like(value).unsqueeze(-1)
        lower = (torch.searchsorted(knots, value.detach().contiguous(), right=True) - 1).clamp(0, len(knots) - 2)
        share = ((value - knots[lower]) / (knots[lower + 1] - knots[lower])).unsqueeze(-1)
        below, above = (functional.one_hot(index, len(knots)).to(value) for index in (lower, lower + 1))
        return below * (1 - share) + above * share


def _checked_when(decision: Decision, when: object) -> When:
    match when:
        case (str(earlier), values) if isinstance(values, Sequence) and not isinstance(values, str) and len(values):
            return earlier, tuple(values)
    raise UsageError(f"{decision} has when={when!r}: give an earlier decision and values, such as ('depth', (3, 4))")


def _check_text(what: str, text: str, forbidden: str) -> None:
    if not text or text != text.strip() or not text.isprintable() or set(text) & set(forbidden):
        raise UsageError(f"{what} cannot be part of a text: leave out {' '.join(forbidden)} and spaces around it")

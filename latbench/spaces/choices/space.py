"""A search space made of a list of decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from latbench.errors import UsageError
from latbench.model.inputs import sample_input
from latbench.space import Column, Graph, HasGraph
from latbench.spaces.choices.decision import Decision
from latbench.spaces.choices.layout import Choices, Layout
from latbench.spaces.settings import Setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from latbench.search.relaxations import Decisions


class ChoiceSpace(ABC):
    """The base of a search space that is a list of decisions: subclass it as a frozen dataclass.

    A subclass gives `name`, `decisions` and `build`; the fields of the dataclass are its configuration. It may also
    give ``terms()`` and ``operation()``, ``parts()`` or ``supernet()`` (see `latbench.space`).
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def decisions(self) -> Sequence[Decision]:
        """What an architecture decides, in this order."""

    @abstractmethod
    def build(self, architecture: Choices) -> nn.Module:
        """Return the network of an architecture: a mapping of the decisions that it makes to their values."""

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self.decisions)

    @property
    def columns(self) -> tuple[Column, ...]:
        """A column ``decision/option`` for each option or knot, ``decision/absent`` for a decision with a condition."""
        return self._layout.columns

    def choices(self, values: Mapping[str, Setting]) -> Choices:
        """Return the architecture of these values, by the names of the decisions.

        Raises:
            ParseError: a decision is missing, unknown or not made, or cannot have its value.
        """
        return self._layout.choices(values)

    def sample(self, n: int, *, seed: int) -> list[Choices]:
        """Draw `n` architectures: every decision that is made is uniform over its options or knots."""
        counts = [len(decision.options) for decision in self.decisions]
        draws = np.random.default_rng(seed).integers(counts, size=(n, len(counts)))
        return [self._made(self._values(row)) for row in draws.tolist()]

    def parse(self, text: str) -> Choices:
        """Parse ``resolution=128,depth1=2``: the decisions that are made, in any order.

        Raises:
            ParseError: the message names the decision.
        """
        return self._layout.parse(text)

    def canonical(self, architecture: Choices) -> str:
        """Return the text: architectures with other decisions compute something else."""
        return str(architecture)

    def encode(self, architectures: Sequence[Choices]) -> NDArray[np.float32]:
        """Return encodings ``(n, columns)``: one-hot, and hat weights for a number between two knots."""
        return self._layout.encode(architectures)

    def decode(self, encoding: NDArray[np.floating]) -> Choices:
        """Return the architecture of one encoding ``(columns,)``.

        Raises:
            ShapeError: the encoding has another length.
            ParseError: it is not that of an architecture.
        """
        return self._layout.decode(encoding)

    def inputs(self, architecture: Choices, *, batch: int) -> dict[str, NDArray[Any]]:
        """Return images ``(batch, 3, size, size)``; override it where networks take something else.

        The size is the decision or field ``resolution``, else the decision or field ``image``.

        Raises:
            UsageError: there is neither.
        """
        for name in ("resolution", "image"):
            size = architecture.get(name, getattr(self, name, None))
            if size is not None:
                return {"x": sample_input((batch, 3, int(size), int(size)))}
        raise UsageError(
            f"space {self.name!r} has neither a decision nor a field 'resolution' or 'image': give its class inputs()"
        )

    def mutate(self, architecture: Choices, *, seed: int) -> Choices:
        """Return an architecture that differs in one decision; decisions that depend on it are drawn.

        Raises:
            UsageError: no decision has another option.
        """
        rng = np.random.default_rng(seed)
        others = {
            decision.name: [option for option in decision.options if option != architecture[decision.name]]
            for decision in self.decisions
            if decision.name in architecture
        }
        free = [name for name, options in others.items() if options]
        if not free:
            raise UsageError(f"no decision of {architecture} has another option: this space cannot be searched")
        changed = free[rng.integers(len(free))]
        option = others[changed][rng.integers(len(others[changed]))]
        drawn = self._values(rng.integers([len(decision.options) for decision in self.decisions]).tolist())
        return self._made({**drawn, **architecture, changed: option})

    def cross(self, first: Choices, second: Choices, *, seed: int) -> Choices:
        """Return an architecture that takes each decision from one of its parents."""
        mothers = np.random.default_rng(seed).integers(2, size=len(self.decisions))
        child: dict[str, Setting] = {}
        for decision, mother in zip(self.decisions, mothers, strict=True):
            if self._layout.is_made(decision, child):
                one, other = (first, second) if mother else (second, first)
                child[decision.name] = one[decision.name] if decision.name in one else other[decision.name]
        return self.choices(child)

    def relaxation(self) -> Decisions[Choices]:
        """Return a softmax for each decision, in their order; each is weighed by how far its condition is met."""
        from latbench.search.relaxations import Decisions

        options = [len(decision.options) for decision in self.decisions]
        graphs = self.graphs() if isinstance(self, HasGraph) else ()
        return Decisions(options, self._layout.conditions, self.decode, graphs=graphs, columns=self.columns)

    def expected(self, choices: Mapping[str, Setting | Tensor]) -> Tensor:
        """Return the encoding ``(columns,)`` of values of which some are tensors, differentiably.

        Args:
            choices: for each decision a value, the weights of its options ``(options,)``, or for an `Ordinal` a scalar
                tensor, such as a width with a gradient. Decisions that are certainly not made may be left out.

        Raises:
            ParseError: a decision is missing or unknown, or cannot have its value.
            ShapeError: a tensor has another shape.
            UsageError: weights are not probabilities, or a number lies outside the knots.
        """
        from latbench.spaces.choices.expectation import expected_encoding

        return expected_encoding(self._layout, choices)

    def graphs(self) -> tuple[Graph]:
        """Return the decisions as a chain, in their order; override it where they decide which layers are there."""
        columns = [tuple(column.name for column in self.columns[place]) for _, place in self._layout.slices()]
        edges = tuple((number, number + 1) for number in range(len(columns)))
        return (Graph("chain", edges, tuple(columns), inputs=(0,), outputs=(len(columns),), keeps=1),)

    def _values(self, indices: Sequence[int]) -> dict[str, Setting]:
        """Return the option of every decision, by its index."""
        pairs = zip(self.decisions, indices, strict=True)
        return {decision.name: decision.options[index] for decision, index in pairs}

    def _made(self, values: Mapping[str, Setting]) -> Choices:
        """Return the architecture of values for all decisions, without those that are not made."""
        found: dict[str, Setting] = {}
        for decision in self.decisions:
            if self._layout.is_made(decision, found):
                found[decision.name] = values[decision.name]
        return self.choices(found)

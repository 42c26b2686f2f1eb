"""The contract of a search space: it samples, encodes and builds architectures, and encodes its relaxed form.

A space is a frozen dataclass whose fields are its configuration (all integers), so two spaces with equal
configuration are equal and `SpaceSpec.of` can write any of them down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn


class Architecture(Hashable, Protocol):
    """One network of a search space: immutable, hashable, and ``str(architecture)`` is the form that parses back."""

    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a space at one place: what a lookup table has a row for.

    Args:
        kind: the operation's name in the space, ``"sep_conv_3x3"``.
        channels_in: channels of its input.
        channels_out: channels of its output.
        size: height and width of its input.
        stride: 1 or 2.
    """

    kind: str
    channels_in: int
    channels_out: int
    size: int
    stride: int = 1

    @property
    def key(self) -> str:
        """The row's name in an operator table: ``sep_conv_3x3 16->16 32x32 s1``."""
        return f"{self.kind} {self.channels_in}->{self.channels_out} {self.size}x{self.size} s{self.stride}"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return self.channels_in, self.size, self.size


@dataclass(frozen=True, slots=True)
class Column:
    """What one column of an encoding stands for.

    Args:
        name: ``"normal/0->2/sep_conv_3x3"``: cell, edge, operation.
        group: columns of one group do the same work at other edges, ``"normal/sep_conv_3x3"``: few-sample
            predictors shrink their costs together.
        operations: the operations that a network runs where this column is 1, and how often; empty for
            ``none`` and for what a compiler removes.
    """

    name: str
    group: str
    operations: Mapping[Operation, int] = field(default_factory=dict)


class Supernet(Protocol):
    """A network in which every edge mixes all operations, weighted by the alphas. Also a ``torch.nn.Module``."""

    def alphas(self) -> list[nn.Parameter]:
        """Return the architecture parameters, shaped like the space's `alpha_shapes`."""
        ...

    def weights(self) -> list[nn.Parameter]:
        """Return all other parameters."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` for images ``(batch, 3, image, image)``."""
        ...


class SearchSpace(Protocol):
    """A search space. See the module's docstring."""

    name: ClassVar[str]
    """Equals the entry-point name."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of one input."""
        ...

    @property
    def classes(self) -> int:
        """How many classes the head tells apart."""
        ...

    @property
    def alpha_shapes(self) -> tuple[tuple[int, int], ...]:
        """The shapes of the alphas, ``(edges, operations)`` each; raveled and joined they are an encoding."""
        ...

    @property
    def columns(self) -> tuple[Column, ...]:
        """What each column of an encoding stands for; as many as an encoding is long."""
        ...

    def sample(self, n: int, *, seed: int) -> Sequence[Architecture]:
        """Draw `n` architectures uniformly and independently; a longer draw with one seed begins like a shorter one."""
        ...

    def parse(self, text: str) -> Architecture:
        """Parse the string form of an architecture.

        Raises:
            ParseError: the text is no architecture of this space; the message says where.
        """
        ...

    def canonical(self, architecture: Any) -> str:
        """Return a text that isomorphic architectures share: the same computation under another numbering."""
        ...

    def encode(self, architectures: Sequence[Any]) -> NDArray[np.float32]:
        """Return one-hot encodings ``(n, columns)``, each edge's operations side by side, in `alpha_shapes` order."""
        ...

    def decode(self, encoding: NDArray[np.floating]) -> Architecture:
        """Return the architecture of one one-hot encoding ``(columns,)``.

        Raises:
            ShapeError: another length.
            ParseError: not the encoding of an architecture.
        """
        ...

    def build(self, architecture: Any) -> nn.Module:
        """Return the trainable network, randomly initialised; its output is logits ``(batch, classes)``."""
        ...

    def build_operation(self, operation: Operation) -> nn.Module:
        """Return one operation of `columns` as a module, for a lookup table's row."""
        ...

    def supernet(self) -> Supernet:
        """Return the network that a differentiable search trains."""
        ...

    def relax(self, alphas: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
        """Return the encoding ``(columns,)`` that the alphas stand for, differentiably: P(edge kept) x P(operation).

        Its limit for ``temperature -> 0`` is the one-hot encoding of ``derive(alphas)``.

        Raises:
            ShapeError: the alphas do not have `alpha_shapes`.
        """
        ...

    def derive(self, alphas: Sequence[Tensor]) -> Architecture:
        """Return the architecture that the alphas favour, by the space's published rule.

        Raises:
            ShapeError: the alphas do not have `alpha_shapes`.
        """
        ...


@runtime_checkable
class HasEnumerate(Protocol):
    """Implemented by search spaces that are small enough to be listed."""

    def enumerate(self) -> Iterator[Architecture]:
        """Yield every architecture once, isomorphic ones included."""
        ...


@dataclass(frozen=True, slots=True)
class SpaceSpec:
    """A search space written down: the plug-in's name and its configuration."""

    name: str
    config: Mapping[str, int]

    @classmethod
    def of(cls, space: SearchSpace) -> SpaceSpec:
        """Write down a space (a dataclass)."""
        return cls(space.name, {field.name: getattr(space, field.name) for field in dataclasses.fields(space)})  # type: ignore[arg-type]

    def __str__(self) -> str:
        config = ", ".join(f"{key}={value}" for key, value in self.config.items())
        return f"{self.name}({config})"

    def create(self) -> SearchSpace:
        """Load the plug-in and build the space.

        Raises:
            PluginError: no such space here.
            UsageError: an unknown or invalid configuration.
        """
        from latbench.plugins import SPACES, configure

        space: SearchSpace = configure(SPACES, self.name, self.config)
        return space

"""The contract of a search space, split along its callers: implement what your callers use, and no more.

- `Encoder` reads, tells apart and encodes architectures: enough to fit, predict, compare and read a file.
- `SearchSpace` also draws and builds them: enough for ``latbench profile`` and for searches that try architectures.
- Each small protocol below adds one thing that a caller asks for by ``isinstance``: `Relaxable`, `HasSupernet`,
  `HasOperations`, `HasGraph`, `HasParts`, `HasNeighbours`, `HasEnumerate`.

A space is a frozen dataclass whose fields are its configuration (texts, numbers, booleans), so that two spaces with
equal configuration are equal and `SpaceSpec.of` can write any of them down. Most spaces need not implement these
methods: a list of decisions is enough (`latbench.spaces.choices`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from latbench.errors import UsageError
from latbench.spaces.settings import Setting, are_equal, field_types, read_setting, settings_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from typing_extensions import TypeVar

    from latbench.model import Model
else:
    from typing import TypeVar


class Architecture(Hashable, Protocol):
    """One network of a search space: immutable, hashable, and ``str(architecture)`` is the form that parses back."""

    def __str__(self) -> str: ...


# A type checker reads `SearchSpace` alone as a space of any architectures; Python 3.13 knows such defaults too.
if TYPE_CHECKING:
    A = TypeVar("A", bound=Architecture, default=Any)
    A_co = TypeVar("A_co", bound=Architecture, covariant=True, default=Any)
    A_contra = TypeVar("A_contra", bound=Architecture, contravariant=True, default=Any)
else:
    A = TypeVar("A", bound=Architecture)
    A_co = TypeVar("A_co", bound=Architecture, covariant=True)
    A_contra = TypeVar("A_contra", bound=Architecture, contravariant=True)


@dataclass(frozen=True, slots=True)
class Column:
    """What one column of an encoding stands for.

    Args:
        name: ``"normal/0->2/sep_conv_3x3"``: unique in its space.
        group: columns of one group do the same work elsewhere, ``"normal/sep_conv_3x3"``: few-sample predictors
            shrink their costs together.
    """

    name: str
    group: str


@dataclass(frozen=True, slots=True)
class Term:
    """Operations that a network runs in proportion to a column of its encoding, or to a product of several.

    Args:
        columns: names of columns; their product is how often the operations run, 0 or 1 for an architecture. Two
            columns where both decide: the width before a layer and the width after it.
        operations: keys of operations, and how often a network with that product at 1 runs each.
    """

    columns: tuple[str, ...]
    operations: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Graph:
    """A directed acyclic graph of which every architecture has a part: which edges are there, and what runs on them.

    Args:
        name: what its columns' groups are called after, ``"normal"``; a network may be made of several graphs.
        edges: ``(source, node)`` of each edge; numbers of nodes grow along edges.
        columns: for each edge the names of the columns that run something on it. The edge is there where one of them
            is 1, and at most one is; those of ``none`` are not among them.
        inputs: the nodes that are given.
        outputs: the nodes that the network uses whatever the other edges are.
        keeps: how many incoming edges every node keeps, the inputs aside; None where each edge is there or not by
            itself.

    Raises:
        UsageError: an edge without its columns, one that points back, a column on two edges, or a node that is neither
            given nor computed.
    """

    name: str
    edges: tuple[tuple[int, int], ...]
    columns: tuple[tuple[str, ...], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    keeps: int | None = None

    def __post_init__(self) -> None:
        if len(self.columns) != len(self.edges):
            raise UsageError(f"graph {self.name!r} has {len(self.edges)} edges: give the columns of each edge")
        for source, node in self.edges:
            if source >= node:
                raise UsageError(f"graph {self.name!r} has the edge {source}->{node}: number its nodes along the edges")
        known = {*self.inputs, *(node for _, node in self.edges)}
        if unknown := sorted({*self.outputs, *(source for source, _ in self.edges)} - known):
            raise UsageError(f"graph {self.name!r} has no edge to node {unknown[0]}: make it an input, or leave it out")
        names = [name for columns in self.columns for name in columns]
        if len(set(names)) < len(names):
            raise UsageError(f"graph {self.name!r} has a column on two edges: give each edge columns of its own")


class Encoder(Protocol[A]):
    """What fitting, predicting and comparing need of a space. Encodings may hold any finite numbers."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """What each column of an encoding stands for; as many as an encoding is long."""
        ...

    def parse(self, text: str) -> A:
        """Parse the string form of an architecture.

        Raises:
            ParseError: the text is not an architecture of this space; the message says where.
        """
        ...

    def canonical(self, architecture: A) -> str:
        """Return a text that isomorphic architectures share: the same computation under another numbering."""
        ...

    def encode(self, architectures: Sequence[A]) -> NDArray[np.float32]:
        """Return encodings ``(n, columns)``, one row an architecture."""
        ...


class SearchSpace(Encoder[A], Protocol[A]):
    """What profiling needs of a space, and every search that tries architectures. See the module's docstring."""

    name: ClassVar[str]
    """What messages call it. Two spaces may share it: `SpaceSpec` goes by the class."""

    def sample(self, n: int, *, seed: int) -> Sequence[A]:
        """Draw `n` architectures independently; a longer draw with one seed begins like a shorter one."""
        ...

    def inputs(self, architecture: A, *, batch: int) -> Mapping[str, NDArray[Any]]:
        """Return sample inputs of an architecture by name, in the order of its ``forward``, batch first.

        They may be tokens, they may be several, and they may differ from one architecture to another.
        """
        ...

    def build(self, architecture: A) -> nn.Module:
        """Return the trainable network, randomly initialised from torch's generator."""
        ...


class Relaxation(Protocol[A_co]):
    """Parameters that a search moves, and the architectures that they stand for.

    `parameters` are always tensors of `shapes`, logits unless the relaxation says otherwise.
    """

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the parameters."""
        ...

    def expected(self, parameters: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
        """Return the expected encoding ``(columns,)`` of what the parameters draw, differentiably.

        Its limit for ``temperature -> 0`` is the encoding of ``derive(parameters)``, unless that limit is dead.

        Raises:
            ShapeError: the parameters do not have `shapes`.
            UsageError: the temperature is not positive.
        """
        ...

    def sample(self, parameters: Sequence[Tensor], n: int, *, temperature: float = 1.0) -> Tensor:
        """Draw encodings ``(n, columns)`` of architectures from torch's generator; their mean tends to `expected`.

        The values are those of architectures; gradients reach the parameters as through `expected`, or by the
        relaxation's own estimator (straight-through).

        Raises:
            ShapeError: the parameters do not have `shapes`.
            UsageError: the temperature or `n` is not positive, or nothing can be drawn from the parameters.
        """
        ...

    def derive(self, parameters: Sequence[Tensor]) -> A_co:
        """Return the architecture that the parameters favour; in a space with a graph the most probable live one.

        Without a path from its inputs to its outputs (`HasGraph`) a network is a constant, fast and of no use.

        Raises:
            ShapeError: the parameters do not have `shapes`.
            UsageError: they hold NaN, or leave no live architecture.
        """
        ...


class Supernet(Protocol):
    """A network that holds all architectures of a space at once. Also a ``torch.nn.Module``."""

    def alphas(self) -> list[nn.Parameter]:
        """Return the architecture parameters, shaped like the relaxation's `shapes`."""
        ...

    def weights(self) -> list[nn.Parameter]:
        """Return all other parameters."""
        ...

    def __call__(self, *inputs: Tensor, encoding: Tensor | None = None) -> Any:
        """Return what the networks of the space return.

        Args:
            inputs: as an architecture takes them.
            encoding: how much of each column runs ``(columns,)``; what is 0 is not run. None mixes by the alphas, as
                the space's publication does.
        """
        ...


@runtime_checkable
class Relaxable(Protocol[A_co]):
    """Implemented by spaces that a search can move through by gradients."""

    def relaxation(self) -> Relaxation[A_co]:
        """Return the relaxation that the space's publication uses."""
        ...


@runtime_checkable
class HasSupernet(Protocol):
    """Implemented by spaces whose architectures can share weights."""

    def supernet(self) -> Supernet:
        """Return a supernet, randomly initialised from torch's generator."""
        ...


@runtime_checkable
class HasOperations(Protocol):
    """Implemented by spaces whose networks are made of operations that can be measured alone."""

    def terms(self) -> Sequence[Term]:
        """Return what runs where: the sum over all terms is a network without what all networks share (stem, head)."""
        ...

    def operation(self, key: str, *, batch: int) -> Model:
        """Return one operation of `terms` as a model, for a row of the operator table.

        Raises:
            ParseError: the space has no such operation.
        """
        ...


@runtime_checkable
class HasGraph(Protocol):
    """Implemented by spaces whose networks are graphs: predictors then know what is dead and what runs side by side."""

    def graphs(self) -> Sequence[Graph]:
        """Return the graphs that a network is made of, a cell each; together they need not have all columns."""
        ...


@runtime_checkable
class HasParts(Protocol[A_contra]):
    """Implemented by spaces whose networks have parts that may run alone: up to an early exit, a stage."""

    def parts(self, architecture: A_contra) -> Mapping[str, nn.Module]:
        """Return the parts by name; each takes the architecture's inputs, and is measured as ``"text#name"``."""
        ...


@runtime_checkable
class HasNeighbours(Protocol[A]):
    """Implemented by spaces in which a search can take small steps."""

    def mutate(self, architecture: A, *, seed: int) -> A:
        """Return an architecture that differs in one decision, drawn from the seed."""
        ...

    def cross(self, first: A, second: A, *, seed: int) -> A:
        """Return an architecture that takes each decision from one of its parents, drawn from the seed."""
        ...


@runtime_checkable
class HasEnumerate(Protocol[A_co]):
    """Implemented by search spaces that are small enough to be listed."""

    def enumerate(self) -> Iterator[A_co]:
        """Yield every architecture once, isomorphic ones included."""
        ...


@dataclass(frozen=True, slots=True)
class SpaceSpec:
    """A search space written down: what loads its class, and its configuration.

    Args:
        name: the plug-in's name, or ``module:Class``.
        config: the fields of the dataclass.
    """

    name: str
    config: Mapping[str, Setting]

    @classmethod
    def of(cls, space: SearchSpace) -> SpaceSpec:
        """Write down a space, such that `create` makes an equal one of the same type in any process.

        Raises:
            UsageError: the space cannot be written down; the message says what to change.
        """
        from latbench.plugins import SPACES, spelling

        spec = cls(spelling(SPACES, type(space)), settings_of(space))
        again = spec.create()
        if not are_equal(space, again):
            raise UsageError(
                f"{spec} is not the given space but one with other attributes: "
                "make everything that it depends on a field of the dataclass"
            )
        return spec

    @classmethod
    def read(cls, name: str, texts: Mapping[str, str]) -> SpaceSpec:
        """Read a configuration from texts, as the fields of the class are annotated: integers, numbers, yes or no.

        Raises:
            PluginError: there is no such space here.
            UsageError: a text is not a value of its field.
        """
        from latbench.plugins import SPACES, load

        types = field_types(load(SPACES, name))
        return cls(name, {key: read_setting(key, text, types.get(key)) for key, text in texts.items()})

    def __str__(self) -> str:
        config = ", ".join(f"{key}={value}" for key, value in self.config.items())
        return f"{self.name}({config})"

    def create(self) -> SearchSpace:
        """Load the plug-in and build the space.

        Raises:
            PluginError: there is no such space here.
            UsageError: an unknown or invalid configuration.
        """
        from latbench.plugins import SPACES, configure

        space: SearchSpace = configure(SPACES, self.name, self.config)
        return space

"""What cell spaces have in common: images in, and operations that columns of their encodings run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from latbench.model import Model
from latbench.model.inputs import sample_input
from latbench.space import Column, Term
from latbench.spaces.cells.checks import check_operation
from latbench.spaces.cells.operation import Operation

if TYPE_CHECKING:
    from torch import nn


class CellSpace(ABC):
    """The base of a space of cells, which is a frozen dataclass with the field `image`.

    Attributes:
        image: height and width of the input.
    """

    name: ClassVar[str]
    image: int

    @property
    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """What each column of an encoding stands for."""

    @abstractmethod
    def column_operations(self) -> Sequence[Mapping[Operation, int]]:
        """Return the operations that a network runs where each column is 1, and how often each.

        They are empty for ``none`` and for what a compiler removes.
        """

    @abstractmethod
    def build_operation(self, operation: Operation) -> nn.Module:
        """Return one operation as the networks of the space use it."""

    def inputs(self, architecture: object, *, batch: int) -> dict[str, NDArray[Any]]:
        """Return images ``(batch, 3, image, image)``; all architectures take the same."""
        return {"x": sample_input((batch, 3, self.image, self.image))}

    def terms(self) -> list[Term]:
        """Return a term for each column that runs operations."""
        return [
            Term((column.name,), {operation.key: count for operation, count in operations.items()})
            for column, operations in zip(self.columns, self.column_operations(), strict=True)
            if operations
        ]

    def operation(self, key: str, *, batch: int) -> Model:
        """Return one operation of `terms` as a model.

        Raises:
            ParseError: the space has no such operation.
        """
        check_operation(key, tuple(self._operations))
        operation = self._operations[key]
        inputs = {"x": sample_input((batch, *operation.input_shape))}
        return Model(key, inputs, module=lambda: self.build_operation(operation).eval())

    @cached_property
    def _operations(self) -> dict[str, Operation]:
        return {operation.key: operation for column in self.column_operations() for operation in column}

"""How DARTS stacks its cells: which ones reduce, and what each has to compute (Liu et al., ICLR 2019, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from latbench.spaces.cells.operation import Operation


@dataclass(frozen=True, slots=True)
class StackedCell:
    """One cell of the stack.

    Args:
        reduction: whether it halves the size.
        channels: channels of each of its nodes.
        size: height and width of its inputs.
    """

    reduction: bool
    channels: int
    size: int

    def edge_operation(self, kind: str, source: int) -> Operation:
        """Return the operation on an edge from `source`: a reduction cell halves what it reads from its inputs."""
        if not self.reduction:
            return Operation(kind, self.channels, self.channels, self.size)
        if source < 2:
            return Operation(kind, self.channels, self.channels, self.size, stride=2)
        return Operation(kind, self.channels, self.channels, self.size // 2)


def stacked_cells(cells: int, channels: int, image: int) -> tuple[StackedCell, ...]:
    """Return the cells of a stack, first to last; those at one and two thirds of the depth reduce.

    Args:
        cells: how many there are, at least 3.
        channels: of the first one; a reduction cell doubles them.
        image: height and width of the input.
    """
    stack, size = [], image
    for index in range(cells):
        reduction = index in (cells // 3, 2 * cells // 3)
        channels *= 2 if reduction else 1
        stack.append(StackedCell(reduction, channels, size))
        size //= 2 if reduction else 1
    return tuple(stack)

"""The order in which a loop keeps its alphas, brought into that of the space: another order bills other operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from latbench.errors import ShapeError, UsageError
from latbench.search.objectives.alpha_rows import Alphas, Edge, are_matrices, as_matrices, label

if TYPE_CHECKING:
    from latbench.space import Encoder


class AlphaOrder:
    """Takes alphas in a loop's order to those of a space's relaxation, ``(edges, operations)`` for each cell.

    A loop may also keep a tensor for each node, one below the other, or a dict of rows by edge.

    Operations of the space that the loop does not have, such as ``none``, are never chosen: their logits are -inf.

    Args:
        space: its columns are named ``.../edge/operation``, as in every cell space.
        shapes: of its relaxation's parameters.
        operations: the loop's, in the order of its alphas' last dimension; None for the space's.
        edges: the loop's, ``(source, node)`` or ``"0->2"`` in the order of its alphas' rows; None for the space's. For
            dicts of rows with labels of another kind, a dict that says what they mean.
        names: what the space calls an operation of the loop, where that differs: ``{"sepconv3x3": "sep_conv_3x3"}``.

    Raises:
        UsageError: an operation or an edge is unknown or given twice, an edge is missing, a name belongs to no
            operation of the loop, or the parameters are no rows of the same operations.
    """

    def __init__(
        self,
        space: Encoder[Any],
        shapes: Sequence[tuple[int, ...]],
        *,
        operations: Sequence[str] | None,
        edges: Sequence[Edge] | Mapping[Edge, Edge] | None,
        names: Mapping[str, str] | None,
    ) -> None:
        self._labels: dict[str, str] = {}
        if isinstance(edges, Mapping):
            self._labels, edges = {label(key): label(edge) for key, edge in edges.items()}, None
        own_edges, own_operations = order_of(space, shapes)
        theirs = own_operations if operations is None else list(operations)
        if strangers := set(names or {}) - set(theirs):
            raise UsageError(
                f"names= has {_listed(strangers)}, which operations= does not: give the loop's names in both"
            )
        called = [(names or {}).get(operation, operation) for operation in theirs]
        rows = own_edges if edges is None else [label(edge) for edge in edges]
        _check_known(
            "operations", called, own_operations, 'names={"theirs": "ours"} says what one of them is called here'
        )
        _check_known("edges", rows, own_edges, "give (source, node) as the space numbers them, both inputs among them")
        if missing := [edge for edge in own_edges if edge not in rows]:
            raise UsageError(f"edges= lacks {_listed(missing)}: give an edge for each row of the alphas")
        self.shapes = ((len(rows), len(called)),) * len(shapes)
        self._edges, self._cells = rows, cells_of(space)
        strangers = {edge for edge in self._labels.values() if edge.split("/")[-1] not in own_edges}
        _check_known("edges", sorted(strangers), own_edges, "a dict says what a label means: 'cell/source->node'")
        self._rows = [rows.index(edge) for edge in own_edges]
        absent = len(called)  # the index of a column of -inf that is put behind the others
        self._columns = [called.index(o) if o in called else absent for o in own_operations]

    def matrices(self, alphas: Alphas) -> Sequence[Tensor]:
        """Return a matrix for each cell, in the loop's order.

        Raises:
            UsageError: a row is missing, unknown or there twice, there is not one entry for each cell, or rows have no
                labels where `edges` says what labels mean.
        """
        if are_matrices(alphas):
            if self._labels:
                raise UsageError(
                    "edges= says what labels mean, and these alphas are matrices whose rows have none: give a dict by "
                    "label, or edges= as a list in the order of the rows"
                )
            return [torch.as_tensor(each) for each in alphas]
        return as_matrices(alphas, self._cells, self._edges, self._labels)

    def __call__(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        """Return the matrices of the cells in the space's order.

        Raises:
            ShapeError: they have other shapes than the loop's edges and operations.
        """
        given = [tuple(alpha.shape) for alpha in alphas]
        if given != list(self.shapes):
            raise ShapeError(f"the edges and operations of this loop need alphas {list(self.shapes)}, not {given}")
        ordered = []
        for alpha in alphas:
            rows = torch.tensor(self._rows, device=alpha.device)
            columns = torch.tensor(self._columns, device=alpha.device)
            ordered.append(functional.pad(alpha, (0, 1), value=-torch.inf)[rows][:, columns])
        return ordered


def order_of(space: Encoder[Any], shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], list[str]]:
    """Return the edges and the operations of a space, in the order of its alphas.

    Raises:
        UsageError: its parameters are not rows of the same operations.
    """
    labels = [column.name.split("/")[-2:] for column in space.columns]
    operations = list(dict.fromkeys(label[-1] for label in labels))
    edges = list(dict.fromkeys(label[0] for label in labels))
    expected = [[edge, operation] for edge in edges for operation in operations] * len(shapes)
    if labels != expected or any(shape != (len(edges), len(operations)) for shape in shapes):
        raise UsageError(
            "this space's alphas are no rows of edges with the same operations each, so operations= and edges= say "
            "nothing about them: leave them out, and give alphas in the order of space.columns"
        )
    return edges, operations


def cells_of(space: Encoder[Any]) -> list[str]:
    """Return the names of a space's cells, in the order of its alphas; one without a name is empty."""
    return list(dict.fromkeys("/".join(column.name.split("/")[:-2]) for column in space.columns))


def _check_known(what: str, given: Sequence[str], own: Sequence[str], remedy: str) -> None:
    if unknown := [name for name in given if name not in own]:
        raise UsageError(f"{what}= has {_listed(unknown)}, but the space has {_listed(own)}: {remedy}")
    if twice := {name for name in given if given.count(name) > 1}:
        raise UsageError(f"{what}= has {_listed(twice)} more than once: give each once, in the order of the alphas")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))

"""The shapes in which loops keep their alphas, brought into one matrix a cell: rows by node, rows by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.errors import UsageError

Edge = str | tuple[int, int]

Rows = Tensor | NDArray[Any] | Sequence[Any] | nn.ParameterList | Mapping[Any, Tensor]
"""The alphas of a cell: a matrix, a matrix for each node one below the other, or a row for each edge by its label."""

Alphas = Sequence[Rows] | nn.ParameterList | Mapping[Any, Tensor]
"""`Rows` for each cell, or one dict of all rows."""


def are_matrices(alphas: Alphas) -> bool:
    """Return whether alphas are a tensor for each cell already."""
    return not isinstance(alphas, Mapping) and not any(_is_nested(each) for each in alphas)


def as_matrices(alphas: Alphas, cells: Sequence[str], edges: Sequence[str], labels: Mapping[str, str]) -> list[Tensor]:
    """Return a matrix ``(edges, operations)`` for each cell.

    Args:
        alphas: in any of the shapes.
        cells: the names of the cells, empty for a space that has one.
        edges: in the order of the rows.
        labels: what the loop calls edges, ``{"normal_n2_p0": "normal/0->2"}``, where it does not call them so.

    Raises:
        UsageError: a row is missing, unknown or there twice, or there is not one entry for each cell.
    """
    if isinstance(alphas, Mapping):
        rows = _by_edge(alphas, labels)
        wanted = [[f"{cell}/{edge}" if cell else edge for edge in edges] for cell in cells]
        _check_rows(rows, [edge for each in wanted for edge in each])
        return [torch.stack([rows[edge] for edge in each]) for each in wanted]
    entries = list(alphas)
    if len(entries) != len(cells):
        names = ", ".join(cells)
        raise UsageError(
            f"{len(entries)} entries of alphas for {len(cells)} cells: give one for each of {names}, such as "
            "[alphas of the nodes of the normal cell, those of the reduction cell]"
        )
    matrices = []
    for cell, entry in zip(cells, entries, strict=True):
        if isinstance(entry, Mapping):
            rows = {edge.removeprefix(f"{cell}/"): row for edge, row in _by_edge(entry, labels).items()}
            _check_rows(rows, edges)
            matrices.append(torch.stack([rows[edge] for edge in edges]))
        else:
            matrices.append(torch.cat(list(entry)) if _is_nested(entry) else torch.as_tensor(entry))
    return matrices


def label(edge: Edge) -> str:
    """Return how a space writes an edge, ``"0->2"``."""
    return edge if isinstance(edge, str) else "->".join(map(str, edge))


def _is_nested(entry: Any) -> bool:
    if isinstance(entry, Mapping | nn.ParameterList):
        return True
    return isinstance(entry, list | tuple) and bool(entry) and isinstance(entry[0], Tensor)


def _by_edge(rows: Mapping[Any, Tensor], labels: Mapping[str, str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, row in rows.items():
        edge = labels.get(label(key), label(key))
        if edge in found:
            raise UsageError(f"the alphas have edge {edge} twice: give each row once")
        found[edge] = row
    return found


def _check_rows(rows: Mapping[str, Tensor], wanted: Sequence[str]) -> None:
    unknown = [edge for edge in rows if edge not in wanted]
    if missing := [edge for edge in wanted if edge not in rows]:
        instead = f" and have {', '.join(unknown)}" if unknown else ""
        raise UsageError(
            f"the alphas lack the edges {', '.join(missing)}{instead}: "
            'edges={"their label": "the space\'s edge"} says what a label means'
        )
    if unknown:
        raise UsageError(f"the alphas have {', '.join(unknown)}, which are no edges of the space: leave them out")

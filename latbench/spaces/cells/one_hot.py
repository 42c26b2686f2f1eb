"""One-hot encodings of cells: for each edge which one of the space's operations it runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ParseError, ShapeError


def one_hot(choices: NDArray[np.integer], operations: int) -> NDArray[np.float32]:
    """Encode operation indices ``(n, edges)`` as ``(n, edges * operations)``, each edge's operations side by side."""
    rows, edges = choices.shape
    encoding: NDArray[np.float32] = np.eye(operations, dtype=np.float32)[choices].reshape(rows, edges * operations)
    return encoding


def chosen_operations(encoding: NDArray[np.floating], edges: Sequence[str], operations: int) -> list[int]:
    """Return the operation index of each edge of one encoding ``(edges * operations,)``.

    Args:
        encoding: what `one_hot` returns, one row of it.
        edges: the edges' names, for messages.
        operations: how many operations an edge chooses from.

    Raises:
        ShapeError: the encoding has another length.
        ParseError: an edge is not one-hot.
    """
    encoding = np.asarray(encoding)
    if encoding.shape != (len(edges) * operations,):
        raise ShapeError(f"an encoding has the shape ({len(edges) * operations},), not {encoding.shape}: give one row")
    rows = encoding.reshape(len(edges), operations)
    for edge, row in zip(edges, rows, strict=True):
        if np.count_nonzero(row) != 1 or row.max() != 1:
            raise ParseError(
                f"edge {edge} is {row.tolist()}, not one-hot: derive() turns alphas into an architecture, "
                "only an encoding with a single 1 on every edge can be decoded"
            )
    return [int(choice) for choice in rows.argmax(axis=1)]

"""A tiny search space that has whatever a strategy may ask for: a supernet, a relaxation, neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from latbench.spaces.nasbench201 import NasBench201Space
from latbench.spaces.nasbench201.cell import EDGES, OPERATIONS, NasBench201Cell


@dataclass(frozen=True)
class TinySpace(NasBench201Space):
    """The cells of NAS-Bench-201 in a network of 8x8 pixels and two classes that trains in a second."""

    cells: int = 1
    channels: int = 4
    image: int = 8
    classes: int = 2

    name: ClassVar[str] = "tiny"

    def mutate(self, architecture: NasBench201Cell, *, seed: int) -> NasBench201Cell:
        """Return a cell with another operation on one edge."""
        rng = np.random.default_rng(seed)
        operations = list(architecture.operations)
        edge = int(rng.integers(len(EDGES)))
        others = [kind for kind in OPERATIONS if kind != operations[edge]]
        operations[edge] = others[rng.integers(len(others))]
        return NasBench201Cell(tuple(operations))

    def cross(self, first: NasBench201Cell, second: NasBench201Cell, *, seed: int) -> NasBench201Cell:
        """Return a cell that takes each edge from one of its parents."""
        mothers = np.random.default_rng(seed).integers(2, size=len(EDGES))
        pairs = zip(first.operations, second.operations, mothers, strict=True)
        return NasBench201Cell(tuple(one if mother else other for one, other, mother in pairs))

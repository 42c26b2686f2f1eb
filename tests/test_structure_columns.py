"""Columns from graphs: what is dead and what is shared, of architectures and on average over relaxed encodings."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from latbench.errors import UsageError
from latbench.prediction.few_samples.expansion import ColumnSet, column_sets
from latbench.prediction.few_samples.line_module import LineModule
from latbench.predictor import Context
from latbench.space import Column, Graph, HasGraph
from latbench.spaces.choices import Choice, ChoiceSpace, Ordinal
from latbench.spaces.darts import DartsSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.spaces.nasbench201.cell import EDGES, OPERATIONS

SPACE = NasBench201Space()


def sets_of(space: HasGraph) -> tuple[ColumnSet, ...]:
    columns = tuple(space.columns)  # type: ignore[attr-defined]
    return column_sets(Context(columns, graphs=tuple(space.graphs())), len(columns))


def named(columns: ColumnSet, X: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Return the sum of the columns of each group."""
    assert columns.groups is not None
    values: dict[str, NDArray[np.float64]] = {}
    for group, column in zip(columns.groups, columns(X).T, strict=True):
        values[group] = values.get(group, np.zeros(len(X))) + column
    return values


def live_edges(operations: tuple[str, ...]) -> list[int]:
    """Return the edges of a cell on a path from node 0 to node 3, found path by path."""
    there = {edge: number for number, edge in enumerate(EDGES) if operations[number] != "none"}
    live = set()
    for path in ((0, 3), (0, 1, 3), (0, 2, 3), (0, 1, 2, 3)):
        edges = list(itertools.pairwise(path))
        if all(edge in there for edge in edges):
            live |= {there[edge] for edge in edges}
    return sorted(live)


def test_live_operations_are_those_on_a_path() -> None:
    cells = SPACE.sample(300, seed=0)
    columns = sets_of(SPACE)[-1]
    values = named(columns, SPACE.encode(cells))
    for kind in OPERATIONS[1:]:
        expected = [sum(cell.operations[edge] == kind for edge in live_edges(cell.operations)) for cell in cells]
        np.testing.assert_allclose(values[f"alive {kind}"], expected, atol=1e-9)
    sums = [max(0, len(live) - len({EDGES[edge][1] for edge in live})) for live in map(live_edges, _operations(cells))]
    np.testing.assert_allclose(values["cell sums"], sums, atol=1e-9)
    shared = [
        sum(count > 1 for count in np.bincount([EDGES[edge][0] for edge in live] or [0]))
        for live in map(live_edges, _operations(cells))
    ]
    np.testing.assert_allclose(values["cell shared nodes"], shared, atol=1e-9)


def _operations(cells: list) -> list[tuple[str, ...]]:  # type: ignore[type-arg]
    return [cell.operations for cell in cells]


def test_a_dead_operation_has_no_live_column() -> None:
    # Node 2 is reached and read by nothing; node 1 is read and reached by nothing.
    cell = SPACE.parse("|none~0|+|nor_conv_3x3~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|none~2|")
    values = named(sets_of(SPACE)[0], SPACE.encode([cell])) | named(sets_of(SPACE)[1], SPACE.encode([cell]))
    assert values["nor_conv_3x3"] == 1
    assert values["used nor_conv_3x3"] == values["alive nor_conv_3x3"] == 0
    assert values["avg_pool_3x3"] == 1
    assert values["alive avg_pool_3x3"] == 0


@pytest.mark.parametrize("concentration", [0.2, 1.0, 5.0])
def test_relaxed_columns_are_expectations_by_enumeration(concentration: float) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.full(5, concentration), size=6)
    choices = np.array(list(itertools.product(range(5), repeat=6)))
    chance = probabilities[np.arange(6), choices].prod(axis=1)
    assert chance.sum() == pytest.approx(1)
    columns = sets_of(SPACE)[-1]
    every = columns(np.eye(5)[choices].reshape(len(choices), -1))
    np.testing.assert_allclose(columns(probabilities.reshape(1, -1))[0], chance @ every, atol=1e-10)


def test_relaxed_columns_of_darts_are_expectations_over_draws() -> None:
    space = DartsSpace()
    torch.manual_seed(0)
    relaxation = space.relaxation()
    alphas = [torch.randn(shape, dtype=torch.float64) for shape in relaxation.shapes]
    columns = sets_of(space)[-1]
    assert columns.mix is not None
    assert columns.mix.shape[1] > len(space.columns)
    draws = columns(relaxation.sample(alphas, 4000).numpy())
    expected = columns(relaxation.expected(alphas).numpy()[None])[0]
    error = np.abs(draws.mean(axis=0) - expected) / (draws.std(axis=0) / np.sqrt(len(draws)) + 1e-9)
    assert error.max() < 5


def test_every_node_of_a_darts_cell_is_alive() -> None:
    groups = set(sets_of(DartsSpace())[-1].groups or ())
    assert {"normal shared nodes", "reduce siblings"} <= groups
    assert not {group for group in groups if group.startswith(("used ", "alive ")) or "live" in group}


def test_the_module_computes_the_same_and_has_right_gradients() -> None:
    columns = sets_of(SPACE)[-1]
    rng = np.random.default_rng(0)
    coef = columns.unmixed(rng.normal(size=len(columns.groups or ())))
    module = LineModule(columns.expansion, coef, 0.5).double()
    rows = torch.from_numpy(rng.dirichlet(np.ones(5), size=(4, 6)).reshape(4, 30)).requires_grad_()
    expected = columns.expansion(rows.detach().numpy()) @ coef + 0.5
    np.testing.assert_allclose(module(rows).detach().numpy(), expected, rtol=1e-6)
    assert torch.autograd.gradcheck(module, (rows,))
    one_hot = torch.from_numpy(SPACE.encode(SPACE.sample(3, seed=0)).astype(np.float64)).requires_grad_()
    assert torch.autograd.gradcheck(module, (one_hot,))


@dataclass(frozen=True)
class Chain(ChoiceSpace):
    name: ClassVar[str] = "chain"
    decisions = (Ordinal("width", (8, 16)), Choice("depth", (1, 2)), Choice("kernel", (3, 5), when=("depth", (2,))))

    def build(self, architecture: object) -> torch.nn.Module:
        raise NotImplementedError


def test_in_a_chain_everything_is_alive() -> None:
    (plain,) = sets_of(Chain())
    assert plain.mix is None


def test_a_graph_with_too_many_paths_has_no_columns() -> None:
    edges = tuple((source, node) for node in range(1, 9) for source in range(node))
    names = tuple((f"{source}->{node}/conv",) for source, node in edges)
    graph = Graph("dense", edges, names, inputs=(0,), outputs=(8,))
    columns = tuple(Column(name, "conv") for (name,) in names)
    assert len(column_sets(Context(columns, graphs=(graph,)), len(columns))) == 1


@pytest.mark.parametrize(
    ("edges", "columns", "outputs", "message"),
    [
        (((0, 1),), (), (1,), "columns of each edge"),
        (((1, 0),), (("a",),), (0,), "number its nodes"),
        (((0, 1), (0, 2)), (("a",), ("a",)), (1,), "a column on two edges"),
        (((0, 1),), (("a",),), (2,), "no edge to node 2"),
    ],
)
def test_a_graph_that_is_none_is_refused(edges, columns, outputs, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=message):
        Graph("cell", edges, columns, inputs=(0,), outputs=outputs)


def test_a_graph_of_other_columns_is_refused() -> None:
    graph = Graph("cell", ((0, 1),), (("no such",),), inputs=(0,), outputs=(1,))
    with pytest.raises(ValueError, match="no column 'no such'"):
        Context((Column("a", "a"),), graphs=(graph,))

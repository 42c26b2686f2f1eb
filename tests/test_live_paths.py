"""No search ends in a network without a path from input to output: the most probable one with a path is derived."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from latbench.errors import UsageError
from latbench.prediction.structure.networks import are_alive
from latbench.search import Objective, RandomStrategy
from latbench.search.relaxations import Softmax
from latbench.search.tasks.classification import Classification
from latbench.search.tasks.images import Images
from latbench.space import Column, Graph
from latbench.spaces.choices import Choice, ChoiceSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.strategy import Problem
from latbench.testing import KnownCost
from latbench.testing.tiny_space import TinySpace

SPACE = NasBench201Space()
CELLS = list(SPACE.enumerate())
X = SPACE.encode(CELLS)
ALIVE = are_alive(SPACE.graphs(), SPACE.columns, X)
EDGES = ((0, 1), (0, 2), (1, 2))


@pytest.mark.parametrize("seed", range(40))
def test_the_most_probable_live_cell_of_all_is_derived(seed: int) -> None:
    alpha = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    alpha[:, 0] += seed / 10  # from cells that hardly have a ``none`` to those that have little else
    log_p = X @ alpha.log_softmax(dim=-1).flatten().numpy()
    log_p[~ALIVE] = -np.inf
    derived = SPACE.relaxation().derive([alpha])
    assert derived == CELLS[int(log_p.argmax())]


def test_what_is_pruned_is_not_what_makes_it_alive() -> None:
    alpha = torch.zeros(6, 5)
    alpha[:, 0] = 9.0
    alpha[3] = -torch.inf  # the edge from the input to the output
    derived = SPACE.relaxation().derive([alpha])
    assert derived.operations[3] == "none"
    assert are_alive(SPACE.graphs(), SPACE.columns, SPACE.encode([derived])).all()
    alpha[4:] = -torch.inf
    with pytest.raises(UsageError, match="prune an edge of every path"):
        SPACE.relaxation().derive([alpha])


def test_an_infinite_logit_is_no_choice() -> None:
    alpha = torch.zeros(6, 5)
    alpha[0, 3] = torch.inf
    with pytest.raises(UsageError, match=r"NaN or \+inf"):
        SPACE.relaxation().derive([alpha])


@dataclass(frozen=True)
class Wired(ChoiceSpace):
    """A width, and a graph of three edges."""

    name: ClassVar[str] = "wired"

    @property
    def decisions(self) -> list[Choice]:
        edges = [Choice(f"edge{source}{node}", ("none", "skip", "conv")) for source, node in EDGES]
        return [Choice("width", ("8", "16")), *edges, Choice("late", ("a", "b"), when=("width", ("16",)))]

    def graphs(self) -> tuple[Graph]:
        columns = tuple((f"edge{source}{node}/skip", f"edge{source}{node}/conv") for source, node in EDGES)
        return (Graph("cell", EDGES, columns, inputs=(0,), outputs=(2,)),)

    def build(self, architecture: Any) -> nn.Module:
        return nn.Identity()


def test_a_space_of_decisions_with_a_graph_derives_live_networks() -> None:
    space = Wired()
    names = [column.name for column in space.columns]
    assert {name for edge in space.graphs()[0].columns for name in edge} <= set(names)
    none = [torch.tensor([0.0, 2.0]), *(torch.tensor([5.0, 0.0, 1.0]) for _ in EDGES), torch.tensor([0.0, 1.0])]
    none[2] = torch.tensor([8.5, 0.0, 1.0])  # 7.5 are lost on the short way, and 8 on the long one
    derived = space.relaxation().derive(none)
    assert str(derived) == str(space.parse("width=16,edge01=none,edge02=conv,edge12=none,late=b"))
    none[2] = torch.tensor([99.0, 0.0, 1.0])
    assert str(space.relaxation().derive(none)) == str(
        space.parse("width=16,edge01=conv,edge02=none,edge12=conv,late=b")
    )


def test_edges_that_rows_do_not_choose_independently_are_refused() -> None:
    columns = [Column(name, name) for name in "abcd"]

    def relaxation(*edges: tuple[str, ...]) -> Softmax[Any]:
        graph = Graph("cell", ((0, 1), (1, 2)), edges, inputs=(0,), outputs=(2,))
        return Softmax(((2, 2),), lambda encoding: encoding, graphs=(graph,), columns=columns)

    with pytest.raises(UsageError, match="not the options of one decision"):
        relaxation(("a", "c"), ("d",))
    with pytest.raises(UsageError, match="edges to several nodes"):
        relaxation(("a",), ("b",))


def test_random_search_draws_no_dead_network_however_fast(tmp_path: Path) -> None:
    space = TinySpace()
    x = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(32) % 2
    task = Classification(Images("few", x, y, x, y))
    cost = KnownCost(space)
    drawn = space.sample(16 * 64, seed=0)
    alive = are_alive(space.graphs(), space.columns, space.encode(drawn))
    values = cost.predict(drawn)
    problem = Problem(space, task, (Objective(cost, float(np.sort(values[alive])[3])),))
    found = RandomStrategy(samples=16, trained=3, epochs=1, batch_size=16).search(problem)
    assert problem.alive([each.architecture for each in found]).all()
    fastest = replace(problem, objectives=(Objective(cost, float(values[alive].min()) * 0.999),))
    with pytest.raises(UsageError, match="with a live path meets the target"):
        RandomStrategy(samples=16, trained=3, epochs=1, batch_size=16).search(fastest)

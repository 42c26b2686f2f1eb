"""Alphas as loops keep them: by node, by label, behind a softmax; each is billed as what it stands for, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.errors import ShapeError, UsageError
from latbench.search import LatencyLoss
from latbench.search.relaxations import Sigmoid
from latbench.spaces.darts.genotype import EDGES, OPERATIONS
from latbench.spaces.nasbench201.cell import EDGES as CELL_EDGES
from tests.test_latency_loss import SPACES, SmoothPredictor, every_space, random_alphas

DARTS, CELLS = SPACES


def by_node(alpha: Tensor) -> list[Tensor]:
    return list(torch.split(alpha, [2, 3, 4, 5]))


def penalty(alphas: Any, space: Any = DARTS, **options: Any) -> float:
    return LatencyLoss(SmoothPredictor(space), **options)(alphas).item()


@pytest.mark.parametrize("wrap", [list, tuple, lambda rows: nn.ParameterList(map(nn.Parameter, rows))])
def test_a_tensor_for_each_node(wrap: Any) -> None:
    alphas = [alpha.detach().requires_grad_() for alpha in random_alphas(DARTS)]
    assert penalty([wrap(by_node(alpha)) for alpha in alphas]) == penalty(alphas)
    last = [alpha.roll(-1, 1) for alpha in alphas]  # pt.darts puts ``none`` last
    named = penalty([wrap(by_node(alpha)) for alpha in last], operations=[*OPERATIONS[1:], OPERATIONS[0]])
    assert named == pytest.approx(penalty(alphas))
    with pytest.raises(UsageError, match="8 entries of alphas for 2 cells: give one for each of normal, reduce"):
        LatencyLoss(SmoothPredictor(DARTS))([*by_node(alphas[0]), *by_node(alphas[1])[:3], by_node(alphas[0])])
    with pytest.raises(ShapeError, match="need alphas"):
        penalty([by_node(alphas[0])[:3], by_node(alphas[1])])


def test_gradients_reach_the_parameters_of_each_node() -> None:
    alphas = [alpha.detach() for alpha in random_alphas(DARTS)]
    own = [alpha.clone().requires_grad_() for alpha in alphas]
    parts = [nn.ParameterList([nn.Parameter(part.clone()) for part in by_node(alpha)]) for alpha in alphas]
    loss = LatencyLoss(SmoothPredictor(DARTS))
    loss(own).backward()
    loss(parts).backward()
    for alpha, part in zip(own, parts, strict=True):
        torch.testing.assert_close(torch.cat([each.grad for each in part]), alpha.grad)


def test_a_dict_of_rows_by_label_in_any_order() -> None:
    alphas = [alpha.detach().requires_grad_() for alpha in random_alphas(DARTS)]
    rng = np.random.default_rng(0)
    rows = [(cell, edge, alphas[cell][index]) for cell in (0, 1) for index, edge in enumerate(EDGES)]
    rows = [rows[index] for index in rng.permutation(len(rows))]
    cells = ("normal", "reduce")
    expected = penalty(alphas)
    for_each = [{edge: row for at, edge, row in rows if at == cell} for cell in (0, 1)]
    assert penalty(for_each) == expected
    whole = {f"{cells[cell]}/{source}->{node}": row for cell, (source, node), row in rows}
    assert penalty(whole) == expected
    theirs = {f"{cells[cell]}_n{node}_p{source}": row for cell, (source, node), row in rows}
    meaning = {f"{cell}_n{node}_p{source}": f"{cell}/{source}->{node}" for cell in cells for source, node in EDGES}
    assert penalty(theirs, edges=meaning) == expected
    with pytest.raises(
        UsageError, match=r"lack the edges normal/0->2, .* and have .*normal_n5_p0.*says what a label means"
    ):
        penalty(theirs)
    with pytest.raises(UsageError, match="lack the edges reduce/4->5"):
        penalty({key: whole[key] for key in whole if key != "reduce/4->5"})
    with pytest.raises(UsageError, match=r"have 9->10, which are no edges"):
        penalty([for_each[0] | {(9, 10): alphas[0][0]}, for_each[1]])
    with pytest.raises(UsageError, match="twice"):
        penalty([for_each[0] | {"0->2": alphas[0][0]}, for_each[1]])
    with pytest.raises(UsageError, match=r"edges= has normal/7->9"):
        penalty(theirs, edges=meaning | {"normal_n2_p0": "normal/7->9"})


def test_a_dict_of_the_one_cell_of_nasbench201() -> None:
    (alpha,) = (alpha.detach().requires_grad_() for alpha in random_alphas(CELLS))
    rows = {edge: alpha[index] for index, edge in enumerate(CELL_EDGES)}
    major = dict(sorted(rows.items()))  # NASLib's order, by source
    assert penalty(major, CELLS) == penalty([major], CELLS) == penalty([alpha], CELLS)
    labels = {f"cell/{source}_{node}": (source, node) for source, node in CELL_EDGES}
    theirs = {f"cell/{source}_{node}": row for (source, node), row in major.items()}
    assert penalty(theirs, CELLS, edges=labels) == penalty([alpha], CELLS)
    from_one = {(source + 1, node + 1): row for (source, node), row in major.items()}
    ours = {(source + 1, node + 1): (source, node) for source, node in CELL_EDGES}
    assert penalty(from_one, CELLS, edges=ours) == penalty([alpha], CELLS)
    with pytest.raises(UsageError, match="lack the edges 0->1"):
        penalty(from_one, CELLS)
    with pytest.raises(UsageError, match="matrices whose rows have none"):
        penalty([alpha], CELLS, edges=ours)


@every_space
def test_probabilities_are_billed_as_the_logits_that_they_come_from(space: Any) -> None:
    alphas = random_alphas(space)
    loss = LatencyLoss(SmoothPredictor(space))
    own = loss(alphas)
    soft = LatencyLoss(SmoothPredictor(space), kind="probabilities")([alpha.softmax(-1) for alpha in alphas])
    assert soft.item() == pytest.approx(own.item(), rel=1e-5)
    for ours, theirs in zip(torch.autograd.grad(own, alphas), torch.autograd.grad(soft, alphas), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_a_hard_sample_is_billed_as_what_it_runs_and_keeps_its_gradient() -> None:
    (alpha,) = random_alphas(CELLS)
    hard = nn.functional.gumbel_softmax(alpha, hard=True)
    loss = LatencyLoss(SmoothPredictor(CELLS), kind="probabilities")
    assert loss([hard]).item() == pytest.approx(loss.of(hard.detach().flatten()).item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss([hard]), alpha)
    assert gradient.isfinite().all()
    assert gradient.any()


@every_space
def test_rows_that_sum_to_one_are_asked_about(space: Any) -> None:
    alphas = [alpha.softmax(-1) for alpha in random_alphas(space)]
    with pytest.raises(UsageError, match="every row of the alphas sums to 1"):
        penalty(alphas, space)
    penalty(alphas, space, kind="logits")
    loss = LatencyLoss(SmoothPredictor(space))
    loss(random_alphas(space))
    loss(alphas)  # an alpha that comes to sum to 1 in mid-search is still a logit
    with pytest.raises(UsageError, match="no probabilities"):
        penalty(random_alphas(space), space, kind="probabilities")
    with pytest.raises(UsageError, match="no kind of alphas named 'gates'"):
        penalty(alphas, space, kind="gates")


def test_what_is_no_softmax_has_no_probabilities() -> None:
    relaxation = Sigmoid(((6, 5),), lambda encoding: encoding)
    with pytest.raises(UsageError, match="Sigmoid is no softmax"):
        LatencyLoss(SmoothPredictor(CELLS), relaxation=relaxation, kind="probabilities")

"""Alphas in another repository's order are billed as what they stand for, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from latbench.errors import ShapeError, UsageError
from latbench.search import LatencyLoss
from latbench.spaces.mobile.ofa import OfaSpace
from tests.test_latency_loss import SPACES, SmoothPredictor, every_space, random_alphas


def order(space):
    """The edges and operations of a space, by its columns' names."""
    labels = [column.name.split("/")[-2:] for column in space.columns]
    return tuple(list(dict.fromkeys(column)) for column in zip(*labels, strict=True))


def gradients(loss: Tensor, alphas):
    return [gradient.numpy() for gradient in torch.autograd.grad(loss, alphas)]


@every_space
@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_rows_and_operations_gives_the_same_penalty_and_gradient(space, seed):
    edges, operations = order(space)
    alphas = random_alphas(space, seed=seed)
    own = LatencyLoss(SmoothPredictor(space))(alphas)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(edges)), rng.permutation(len(operations))
    theirs = [alpha.detach()[rows][:, columns].requires_grad_() for alpha in alphas]
    loss = LatencyLoss(
        SmoothPredictor(space),
        operations=[operations[c].replace("_", "") for c in columns],
        edges=[tuple(map(int, edges[row].split("->"))) for row in rows],
        names={operation.replace("_", ""): operation for operation in operations},
    )
    assert loss(theirs).item() == pytest.approx(own.item(), rel=1e-6)
    for ours, given in zip(gradients(own, alphas), gradients(loss(theirs), theirs), strict=True):
        np.testing.assert_allclose(given, ours[rows][:, columns], rtol=1e-4, atol=1e-8)


@every_space
def test_an_operation_that_the_loop_lacks_is_never_chosen(space):
    _, operations = order(space)
    loss = LatencyLoss(SmoothPredictor(space), target=1.0, operations=operations[1:])
    alphas = random_alphas(space)
    theirs = [alpha.detach()[:, 1:].requires_grad_() for alpha in alphas]
    with torch.no_grad():
        for alpha in alphas:
            alpha[:, 0] = -torch.inf
    assert loss(theirs).item() == LatencyLoss(SmoothPredictor(space), target=1.0)(alphas).item()
    assert all(np.isfinite(gradient).all() and gradient.any() for gradient in gradients(loss(theirs), theirs))
    with pytest.raises(ShapeError, match="need alphas"):
        loss(alphas)


def test_without_a_target_the_reference_is_uniform_over_the_operations_of_the_loop():
    space = SPACES[1]
    loss = LatencyLoss(SmoothPredictor(space), operations=order(space)[1][1:])
    assert loss([torch.zeros(6, 4, requires_grad=True)]).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"operations": ["none", "maxpool"]},
            "operations= has maxpool, but the space has none, max_pool_3x3, .*names=",
        ),
        ({"operations": ["none", "none"]}, "operations= has none more than once"),
        ({"operations": ["none"], "names": {"maxpool": "max_pool_3x3"}}, "names= has maxpool, which operations= does"),
        ({"edges": [(0, 2)]}, "edges= lacks 1->2, 0->3"),
        ({"edges": [(0, 1), (0, 2)]}, "edges= has 0->1, but the space has 0->2"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(options, message):
    with pytest.raises(UsageError, match=message):
        LatencyLoss(SmoothPredictor(SPACES[0]), **options)


def test_a_space_whose_decisions_differ_has_no_order_of_operations():
    space = OfaSpace()
    with pytest.raises(UsageError, match="no rows of edges with the same operations"):
        LatencyLoss(SmoothPredictor(space), operations=["3", "5"])

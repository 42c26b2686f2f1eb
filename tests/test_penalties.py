"""Penalties, warm-up, and several predictors in one loss."""

from __future__ import annotations

import math

import pytest
import torch

from latbench.errors import UsageError
from latbench.search import DualAscent, LatencyLoss, Together, WarmUp
from tests.test_latency_loss import SPACES, SmoothPredictor, hard, random_alphas

DARTS, CELLS = SPACES


def at(ratio: float, **options) -> LatencyLoss:
    """A loss whose target makes the given alphas take `ratio` of it."""
    expected = LatencyLoss(SmoothPredictor(CELLS)).expected(random_alphas(CELLS)).item()
    return LatencyLoss(SmoothPredictor(CELLS), target=expected / ratio, **options)


@pytest.mark.parametrize(
    ("penalty", "ratio", "value"),
    [
        *(("linear", 1.25, 1.25), ("linear", 0.8, 0.8), ("hinge", 1.25, 0.25), ("hinge", 0.8, 0.0)),
        *(("absolute", 1.25, 0.25), ("absolute", 0.8, 0.2), ("log", 1.25, math.log(1.25)), ("log", 0.8, math.log(0.8))),
    ],
)
def test_each_penalty_is_what_its_page_says(penalty: str, ratio: float, value: float) -> None:
    loss = at(ratio, penalty=penalty, weight=3.0)
    assert loss(random_alphas(CELLS)).item() == pytest.approx(3 * value, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("ratio", [1.02, 0.98])
def test_an_absolute_penalty_moves_alphas_to_the_target_from_both_sides(ratio: float) -> None:
    loss, alphas = at(ratio, penalty="absolute"), random_alphas(CELLS)
    optimizer = torch.optim.Adam(alphas, lr=0.01)
    for _ in range(400):
        optimizer.zero_grad()
        loss(alphas).backward()
        optimizer.step()
    assert loss(alphas).item() < 0.003


def test_a_product_scales_the_loss_of_the_task() -> None:
    alphas, task_loss = random_alphas(CELLS), torch.tensor(2.0, requires_grad=True)
    product = at(1.25, weight=0.5).scaled(task_loss, alphas)
    assert product.item() == pytest.approx(2 * 1.25**0.5, rel=1e-4)
    gradients = torch.autograd.grad(product, [task_loss, *alphas])
    assert all(gradient.any() for gradient in gradients)
    assert at(1.25, weight=0.0).scaled(task_loss, alphas).item() == pytest.approx(2.0)


@pytest.mark.parametrize("penalty", ["hinge", "absolute"])
def test_what_needs_a_target_says_so(penalty: str) -> None:
    with pytest.raises(UsageError, match=rf"an? {penalty} penalty needs a target"):
        LatencyLoss(SmoothPredictor(CELLS), penalty=penalty)


def test_a_warm_up_grows_to_the_whole_penalty_and_stays() -> None:
    loss, alphas = at(1.25), random_alphas(CELLS)
    whole = loss(alphas).item()
    warm = WarmUp(loss, 4)
    assert [warm(alphas).item() / whole for _ in range(6)] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])
    again = WarmUp(loss, 4)
    again.load_state_dict(warm.state_dict())
    again.eval()
    assert again(alphas).item() == again(alphas).item() == pytest.approx(whole)
    assert int(again.done) == 6
    fresh = WarmUp(DualAscent(at(1.25, penalty="hinge")), 2)
    assert fresh.of(hard(CELLS)).item() == 0
    with pytest.raises(UsageError, match="warm-up of 0 steps"):
        WarmUp(loss, 0)


def test_several_predictors_are_summed_or_the_worst_counts() -> None:
    alphas = random_alphas(CELLS)
    phone, server = at(1.5, penalty="hinge"), at(1.2, penalty="hinge", weight=2.0)
    both = Together([phone, server])
    assert both(alphas).item() == pytest.approx(0.9, rel=1e-4)
    worst = Together([phone, server], "worst")
    assert worst(alphas).item() == pytest.approx(0.5, rel=1e-4)
    server.target = server.target / 2
    assert worst(alphas).item() == pytest.approx(2.8, rel=1e-4)
    assert worst.of(hard(CELLS)).item() == max(phone.of(hard(CELLS)).item(), server.of(hard(CELLS)).item())
    assert not worst.state_dict()
    assert both.double()(random_alphas(CELLS, dtype=torch.float64)).dtype == torch.float64
    other = LatencyLoss(SmoothPredictor(DARTS), target=1.0)
    for losses, how, message in (
        ([phone, other], "sum", "different spaces"),
        ([], "sum", "no losses"),
        ([phone], "mean", "'mean'"),
    ):
        with pytest.raises(UsageError, match=message):
            Together(losses, how)

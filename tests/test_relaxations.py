"""What relaxations draw, expect and derive, beside what their contract suite checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from latbench.errors import UsageError
from latbench.search.relaxations import Decisions, EdgePairs, GumbelSoftmax, Sigmoid, Softmax, TwoEdges
from latbench.testing import RelaxationSuite

TRIANGLE = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def decoded(encoding: np.ndarray) -> tuple[int, ...]:
    assert set(encoding.tolist()) <= {0, 1}
    return tuple(int(value) for value in encoding)


class EncodedSuite(RelaxationSuite):
    """Architectures are their encodings."""

    def encode(self, architecture):
        return np.array(architecture, dtype=np.float64)

    def check_draw(self, encoding):
        assert set(encoding.tolist()) <= {0, 1}


class TestSoftmax(EncodedSuite):
    def relaxation(self):
        return Softmax(((2, 3), (4,)), decoded)


class TestGumbelSoftmax(EncodedSuite):
    def relaxation(self):
        return GumbelSoftmax(((2, 3), (4,)), decoded, sharpness=0.7)


class TestSigmoid(EncodedSuite):
    def relaxation(self):
        return Sigmoid(((2, 3), (4,)), decoded)


class TestTwoEdges(EncodedSuite):
    def relaxation(self):
        return TwoEdges(TRIANGLE, 3, decoded, cells=2)


class TestEdgePairs(EncodedSuite):
    def relaxation(self):
        return EdgePairs(TRIANGLE, 4, decoded, cells=2)


class TestDecisions(EncodedSuite):
    """The third decision depends on the first, and the fourth on the third."""

    def relaxation(self):
        return Decisions((3, 2, 2, 3), (None, None, (0, (1, 2)), (2, (0,))), decoded)


def test_two_edges_sums_to_two_edges_a_node() -> None:
    relaxation = TwoEdges(TRIANGLE, 3, decoded)
    draws = relaxation.sample([torch.randn(5, 3)], 200).reshape(200, 5, 3)
    assert (draws.sum(dim=-1) == 1).all()
    kept = 1 - draws[..., 0]
    assert (kept[:, :2].sum(dim=1) == 2).all()
    assert (kept[:, 2:].sum(dim=1) == 2).all()


def test_an_edge_whose_operations_are_pruned_is_not_kept() -> None:
    alpha = torch.zeros(5, 3)
    alpha[3, 1:] = -torch.inf
    alpha.requires_grad_()
    expected = TwoEdges(TRIANGLE, 3, decoded).expected([alpha]).reshape(5, 3)
    torch.testing.assert_close(expected[:, 0], torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]))
    expected[:, 1].sum().backward()
    assert torch.isfinite(alpha.grad).all()


def test_a_node_whose_edges_are_all_pruned_keeps_two_of_them() -> None:
    relaxation = TwoEdges(TRIANGLE, 3, decoded)
    alpha = torch.zeros(5, 3)
    alpha[2:, 1:] = -torch.inf
    expected = relaxation.expected([alpha]).reshape(5, 3)
    torch.testing.assert_close(1 - expected[2:, 0], torch.full((3,), 2 / 3))
    assert (relaxation.sample([alpha], 50).reshape(50, 5, 3)[:, 2:, 1:].sum(dim=(1, 2)) == 2).all()


def test_a_pair_of_edges_is_kept_together() -> None:
    relaxation = EdgePairs(TRIANGLE, 3, decoded)
    assert relaxation.shapes == ((5, 2), (1,), (3,))
    # The pairs of node 3 are those of its first and second, first and third, second and third edge.
    expected = relaxation.expected([torch.zeros(5, 2), torch.zeros(1), torch.tensor([-50.0, 50.0, -50.0])])
    torch.testing.assert_close(1 - expected.reshape(5, 3)[:, 0], torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0]))


@pytest.mark.parametrize("relaxation", [TwoEdges, EdgePairs])
def test_a_node_with_one_incoming_edge_cannot_keep_two(relaxation: type) -> None:
    with pytest.raises(UsageError, match="node 1 has 1 incoming edge"):
        relaxation(((0, 1),), 3, decoded)


def test_sharper_gumbel_draws_have_the_same_mean_and_gradients_of_the_soft_draw() -> None:
    logits = torch.tensor([[0.5, -0.5, -torch.inf]], requires_grad=True)
    relaxation = GumbelSoftmax(((1, 3),), decoded, sharpness=0.5)
    torch.manual_seed(0)
    draws = relaxation.sample([logits], 4000)
    torch.testing.assert_close(draws.mean(dim=0), relaxation.expected([logits]), atol=0.03, rtol=0)
    draws[:, 0].sum().backward()
    assert logits.grad[0, 0] > 0
    assert logits.grad[0, 2] == 0
    with pytest.raises(UsageError, match="sharpness 0"):
        GumbelSoftmax(((1, 3),), decoded, sharpness=0)


def test_yes_and_no_are_drawn_independently() -> None:
    relaxation = Sigmoid(((2,), (1, 2)), decoded)
    parameters = [torch.tensor([2.0, -torch.inf]), torch.tensor([[0.0, 1e4]])]
    assert relaxation.derive(parameters) == (1, 0, 0, 1)
    torch.testing.assert_close(
        relaxation.expected(parameters, temperature=2.0), torch.tensor([1.0, -torch.inf, 0.0, 1e4]).sigmoid()
    )


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_draws_from_nothing_are_refused(value: float) -> None:
    for relaxation in (Softmax, GumbelSoftmax):
        with pytest.raises(UsageError, match="leave each row a finite entry"):
            relaxation(((2, 3),), decoded).sample([torch.full((2, 3), value)], 1)


EDGES = ((0, 2), (1, 2))


@pytest.mark.parametrize(
    "relaxation",
    [
        Softmax(((2, 3),), decoded),
        GumbelSoftmax(((2, 3),), decoded),
        Sigmoid(((2,),), decoded),
        TwoEdges(EDGES, 3, decoded),
        EdgePairs(EDGES, 3, decoded),
    ],
)
def test_nothing_is_drawn_nor_derived_without_a_word(relaxation: Any) -> None:
    finite = [torch.zeros(shape) for shape in relaxation.shapes]
    assert len(relaxation.sample(finite, 1)) == 1
    for n in (0, -1):
        with pytest.raises(UsageError, match=f"{n} encodings cannot be drawn: draw at least 1"):
            relaxation.sample(finite, n)
    diverged = [parameter.clone() for parameter in finite]
    diverged[-1].view(-1)[0] = torch.nan
    with pytest.raises(UsageError, match=r"the parameters hold NaN or \+inf: a search diverged"):
        relaxation.derive(diverged)

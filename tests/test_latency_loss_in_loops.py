"""The latency loss in a loop that others wrote: its state, its target, its alphas and its predictor's module."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from latbench.errors import ShapeError, UsageError
from latbench.search import LatencyLoss
from tests.test_latency_loss import SPACES, SmoothPredictor, every_space, hard, random_alphas


def test_a_network_with_the_loss_as_an_attribute_keeps_its_state():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

    network = Network()
    before = copy.deepcopy(network.state_dict())
    network.latency = LatencyLoss(SmoothPredictor(SPACES[0]), target=1.0)
    assert set(network.state_dict()) == set(before)
    network.load_state_dict(before)  # a checkpoint from before the loss was there
    assert list(network.latency.buffers()), "the predictor still moves with the network"
    assert network.double().latency(random_alphas(SPACES[0], dtype=torch.float64)).dtype == torch.float64


def test_a_target_can_be_set():
    predictor, alphas = SmoothPredictor(SPACES[1]), random_alphas(SPACES[1])
    loss = LatencyLoss(predictor, target=0.1, penalty="hinge")
    loss.target = 0.2
    assert loss.target == 0.2
    assert loss(alphas).item() == LatencyLoss(predictor, target=0.2, penalty="hinge")(alphas).item()
    for wrong in (0, -1.0, float("nan"), "1 ms", None):
        with pytest.raises(UsageError, match="positive number"):
            loss.target = wrong
    assert loss.target == 0.2
    linear = LatencyLoss(predictor, target=0.1)
    linear.target = None
    assert linear(alphas).item() == LatencyLoss(predictor)(alphas).item()


def test_one_warning_where_no_alpha_wants_a_gradient():
    loss = LatencyLoss(SmoothPredictor(SPACES[0]), target=1.0)
    alphas = random_alphas(SPACES[0])
    detached = [alpha.detach() for alpha in alphas]
    with torch.no_grad():
        loss(alphas)
    loss([alphas[0], detached[1]])  # one cell alone may be searched
    with pytest.warns(UserWarning, match="steers nothing"):
        loss(detached)
    loss(detached)  # warnings are errors: there is no second one


@every_space
@pytest.mark.parametrize("shift", [-0.3, 0.0, 0.3])
def test_logarithms_and_standardised_values_are_refused_with_a_target_too(space, shift):
    """The sign of such a gradient may be turned round: a search would find the slowest architecture."""
    module = SmoothPredictor(space).module().eval()
    with torch.no_grad():
        values = module(torch.from_numpy(space.encode(space.sample(200, seed=1))))
    mean, deviation = values.mean().item(), values.std().item()

    class Standardised(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return (self.inner(x) - mean) / deviation + shift

    with pytest.raises(UsageError, match="logarithm or a standardised value"):
        LatencyLoss(SimpleNamespace(space=space, unit="ms", module=Standardised), target=1.0)


@pytest.mark.parametrize("tail", [[], [nn.Unflatten(-1, (2, 1))]], ids=["(..., 1)", "(..., 2, 1)"])
def test_a_module_that_gives_another_shape_than_one_value_is_refused(tail):
    space = SPACES[1]
    module = nn.Sequential(nn.Linear(len(space.columns), 2 if tail else 1), *tail)
    predictor = SimpleNamespace(space=space, unit="ms", module=lambda: module)
    with pytest.raises(ShapeError, match="squeeze its last dimension"):
        LatencyLoss(predictor, target=1.0)


def test_batch_normalisation_in_a_module_is_in_evaluation_mode():
    space = SPACES[1]
    module = nn.Sequential(nn.Linear(len(space.columns), 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0))
    nn.init.constant_(module[2].bias, 9.0)
    loss = LatencyLoss(SimpleNamespace(space=space, unit="ms", module=lambda: module), target=1.0)
    encodings = hard(space)
    assert loss.value(encodings).item() == pytest.approx(module.eval()(encodings).mean().item())
    alphas = random_alphas(space)
    loss(alphas).backward()  # one encoding, not a batch
    assert alphas[0].grad.any()


@every_space
@pytest.mark.parametrize("kept", [torch.tensor([0]), torch.tensor([], dtype=torch.long)], ids=["none kept", "all -inf"])
def test_a_pruned_edge_is_billed_as_one_that_runs_nothing(space, kept):
    far, pruned = random_alphas(space), random_alphas(space)
    with torch.no_grad():
        far[0][4] = torch.tensor([100.0] + [-100.0] * (far[0].shape[-1] - 1))
        entries = pruned[0][4, kept]
        pruned[0][4] = -torch.inf
        pruned[0][4, kept] = entries
    latency = LatencyLoss(SmoothPredictor(space), target=1.0)
    value, expected = latency(pruned), latency(far)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    value.backward()
    expected.backward()
    for alpha, other in zip(pruned, far, strict=True):
        torch.testing.assert_close(alpha.grad, other.grad, rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        assert str(space.relaxation().derive(pruned)) == str(space.relaxation().derive(far))
        assert latency.of(space.relaxation().sample(pruned, 3)).isfinite()


def test_inside_a_function_transform_nothing_is_said_of_gradients():
    loss, alphas = LatencyLoss(SmoothPredictor(SPACES[1]), target=1.0), random_alphas(SPACES[1])
    many = torch.stack([alphas[0], alphas[0] + 1])
    torch.func.vmap(lambda alpha: loss([alpha]))(many).sum().backward()
    assert alphas[0].grad.any()
    assert torch.func.grad(lambda alpha: loss([alpha]))(alphas[0].detach()).any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_is_refused_in_words():
    module = torch.jit.trace(nn.Sequential(nn.Linear(30, 1), nn.Flatten(0)), torch.zeros(2, 30))
    with pytest.raises(UsageError, match=r"TorchScript.*give the module that it was made from"):
        LatencyLoss(SimpleNamespace(space=SPACES[1], unit="ms", module=lambda: module), target=1.0)

"""The latency loss: its value, its gradient, and what it refuses."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from latbench.errors import ShapeError, UsageError
from latbench.search import LatencyLoss
from latbench.spaces.darts import DartsSpace
from latbench.spaces.nasbench201 import NasBench201Space

SPACES = [DartsSpace(cells=3, channels=4, image=8), NasBench201Space(cells=1, channels=4, image=8)]
every_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)


class SmoothPredictor:
    """A smooth non-linear predictor of positive values."""

    unit = "ms"

    def __init__(self, space, *, scale=1.0):
        self.space = space
        generator = torch.Generator().manual_seed(0)
        first, last = nn.Linear(len(space.columns), 8), nn.Linear(8, 1)
        for layer in (first, last):
            nn.init.uniform_(layer.weight, 0, 0.1, generator=generator)
            nn.init.constant_(layer.bias, 0.5)
        self.network = nn.Sequential(first, nn.SiLU(), nn.Dropout(0.5), last, Scale(scale))

    def module(self):
        return self.network


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.squeeze(-1)


def random_alphas(space, *, seed=0, spread=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    draw = (torch.randn(shape, generator=generator, dtype=dtype) * spread for shape in space.relaxation().shapes)
    return [alpha.requires_grad_() for alpha in draw]


@every_space
@pytest.mark.parametrize("options", [{}, {"target": 0.1, "penalty": "hinge"}, {"target": 2.0, "temperature": 0.5}])
def test_gradients_match_finite_differences(space, options):
    latency = LatencyLoss(SmoothPredictor(space), weight=3.0, **options).double()
    alphas = random_alphas(space, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *values: latency(values), alphas)


def hard(space, n=3):
    """Encodings of architectures, as a loop with hard gates has them."""
    return torch.from_numpy(space.encode(space.sample(n, seed=0)))


@every_space
def test_hard_gates_are_billed_as_the_architecture_is_predicted(space):
    latency = LatencyLoss(SmoothPredictor(space), target=2.0, weight=3.0)
    for encoding in hard(space):
        predicted = SmoothPredictor(space).network.eval()(encoding)
        assert latency.of(encoding).item() == pytest.approx(3.0 * predicted.item() / 2.0, rel=1e-6)
        assert latency.value(encoding).item() == pytest.approx(predicted.item(), rel=1e-6)


@every_space
def test_alphas_are_billed_by_their_expected_encoding(space):
    latency, alphas = LatencyLoss(SmoothPredictor(space), temperature=0.3), random_alphas(space)
    encoding = space.relaxation().expected(alphas, temperature=0.3)
    assert latency(alphas).item() == latency.of(encoding).item()


def test_sub_graphs_are_billed_by_their_mean_or_by_how_often_they_run():
    latency, rows = LatencyLoss(SmoothPredictor(SPACES[1]), target=1.0), hard(SPACES[1])
    values = torch.stack([latency.value(row) for row in rows])
    assert latency.of(rows).item() == pytest.approx(values.mean().item())
    logits = torch.tensor([0.1, 0.2, 0.7], requires_grad=True)
    penalty = latency.of(rows, weights=logits.softmax(0))
    assert penalty.item() == pytest.approx((logits.softmax(0) * values).sum().item())
    (gradient,) = torch.autograd.grad(penalty, logits)
    assert gradient.abs().max() > 0


def test_arrays_are_billed_like_tensors():
    latency, space = LatencyLoss(SmoothPredictor(SPACES[1]), target=1.0), SPACES[1]
    rows = space.encode(space.sample(3, seed=0))
    assert latency.of(rows[0]).item() == latency.of(torch.from_numpy(rows[0])).item()
    weights = [0.5, 0.25, 0.25]
    expected = latency.of(torch.from_numpy(rows), torch.tensor(weights)).item()
    assert latency.of(rows, weights).item() == latency.of(rows, np.array(weights)).item() == pytest.approx(expected)


def test_gradients_reach_encodings_and_weights_in_double_precision():
    latency = LatencyLoss(SmoothPredictor(SPACES[1]), target=0.1, penalty="hinge").double()
    rows = hard(SPACES[1]).double().requires_grad_()
    logits = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda rows, logits: latency.of(rows, logits.softmax(0)), (rows, logits))
    assert torch.autograd.gradgradcheck(lambda rows, logits: latency.of(rows, logits.softmax(0)), (rows, logits))


@pytest.mark.parametrize("shape", [(29,), (2, 31), (1, 2, 30), (0, 30), ()])
def test_encodings_of_another_width_are_refused(shape):
    with pytest.raises(ShapeError, match=r"\(30,\) or \(k, 30\)"):
        LatencyLoss(SmoothPredictor(SPACES[1]), target=1.0).of(torch.zeros(shape))


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([0.5, 0.6, -0.1], UsageError, "the lowest is -0.1"),
        ([0.3, 0.3, 0.3], UsageError, r"sum to 0\.9"),
        ([1.0, float("nan"), 0.0], UsageError, "sum to nan"),
        ([0.5, 0.5], ShapeError, "one weight for each row"),
    ],
)
def test_weights_that_are_no_probabilities_are_refused(weights, error, message):
    latency = LatencyLoss(SmoothPredictor(SPACES[1]), target=1.0)
    with pytest.raises(error, match=message):
        latency.of(hard(SPACES[1]), weights=torch.tensor(weights))
    with pytest.raises(ShapeError):
        latency.of(hard(SPACES[1])[0], weights=torch.ones(1))


class Plain:
    """A space without a relaxation."""

    name, columns = "plain", SPACES[1].columns


def test_a_space_without_relaxation_bills_encodings_only():
    encoding = hard(SPACES[1])[0]
    latency = LatencyLoss(SmoothPredictor(Plain()), target=1.0)
    assert latency.of(encoding).item() == LatencyLoss(SmoothPredictor(SPACES[1]), target=1.0).of(encoding).item()
    with pytest.raises(UsageError, match=r"space 'plain' has no relaxation.*of\(encoding\)"):
        latency(random_alphas(SPACES[1]))
    with pytest.raises(UsageError, match=r"space 'plain' has no relaxation.*give a target"):
        LatencyLoss(SmoothPredictor(Plain()))


def test_a_relaxation_of_ones_own_takes_the_place_of_the_spaces():
    relaxation, alphas = SPACES[1].relaxation(), random_alphas(SPACES[1])
    ours = LatencyLoss(SmoothPredictor(Plain()), relaxation=relaxation)
    assert ours(alphas).item() == LatencyLoss(SmoothPredictor(SPACES[1]))(alphas).item()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_reference_that_is_not_positive_is_refused(scale):
    for target in (None, 1.0):
        with pytest.raises(
            UsageError, match="at uniform alphas, and no penalty can be relative to that: let its module"
        ):
            LatencyLoss(SmoothPredictor(SPACES[1], scale=scale), target=target)


@every_space
def test_linear_penalty_has_no_unit(space):
    in_ms, in_us = (LatencyLoss(SmoothPredictor(space, scale=scale), weight=0.5) for scale in (1.0, 1000.0))
    uniform = [torch.zeros(shape, requires_grad=True) for shape in space.relaxation().shapes]
    assert in_ms(uniform).item() == pytest.approx(0.5)
    alphas = random_alphas(space)
    assert in_ms(alphas).item() == pytest.approx(in_us(alphas).item(), rel=1e-5)
    assert in_us.expected(alphas).item() == pytest.approx(1000 * in_ms.expected(alphas).item(), rel=1e-5)


def test_linear_penalty_is_relative_to_a_target():
    latency = LatencyLoss(SmoothPredictor(SPACES[1]), target=0.25, weight=2.0)
    alphas = random_alphas(SPACES[1])
    assert latency(alphas).item() == pytest.approx(2.0 * latency.expected(alphas).item() / 0.25)


@pytest.mark.parametrize(("factor", "excess"), [(1.25, 0.0), (0.8, 0.25)])
def test_hinge_has_a_gradient_above_the_target_only(factor, excess):
    predictor, alphas = SmoothPredictor(SPACES[0]), random_alphas(SPACES[0])
    expected = LatencyLoss(predictor).expected(alphas).item()
    penalty = LatencyLoss(predictor, target=factor * expected, penalty="hinge", weight=4.0)(alphas)
    assert penalty.item() == pytest.approx(4.0 * excess, abs=1e-5)
    gradients = torch.autograd.grad(penalty, alphas)
    assert any(gradient.any() for gradient in gradients) == (excess > 0)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(seed=st.integers(0, 10_000))
@every_space
def test_cold_relaxation_expects_what_the_derived_architecture_is_predicted(space, seed):
    latency = LatencyLoss(SmoothPredictor(space), temperature=1e-5)
    alphas = random_alphas(space, seed=seed)
    derived = torch.from_numpy(space.encode([space.relaxation().derive(alphas)]))
    assert latency.expected(alphas).item() == pytest.approx(latency.predictor(derived).item(), rel=1e-3)


def test_descending_the_loss_brings_the_expected_value_to_the_target():
    predictor, alphas = SmoothPredictor(SPACES[0]), random_alphas(SPACES[0])
    before = LatencyLoss(predictor).expected(alphas).item()
    hinge = LatencyLoss(predictor, target=0.97 * before, penalty="hinge")
    optimizer = torch.optim.Adam(alphas, lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        hinge(alphas).backward()
        optimizer.step()
    assert hinge.expected(alphas).item() == pytest.approx(0.97 * before, rel=0.01)


def test_no_optimizer_can_reach_the_predictor():
    predictor = SmoothPredictor(SPACES[1])
    before = copy.deepcopy(predictor.network.state_dict())
    latency = LatencyLoss(predictor)
    assert list(latency.parameters()) == []
    latency(random_alphas(SPACES[1])).backward()
    assert all(parameter.grad is None for parameter in predictor.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in predictor.network.state_dict().items())


def test_training_mode_adds_no_noise():
    latency = LatencyLoss(SmoothPredictor(SPACES[1])).train()
    alphas = random_alphas(SPACES[1])
    assert len({latency(alphas).item() for _ in range(8)}) == 1


def test_penalty_joins_the_loss_of_a_users_own_loop():
    supernet = SPACES[1].supernet()
    latency = LatencyLoss(SmoothPredictor(SPACES[1]))
    loss = nn.functional.cross_entropy(supernet(torch.randn(2, 3, 8, 8)), torch.tensor([0, 1])) + latency(
        supernet.alphas()
    )
    loss.backward()
    assert all(alpha.grad.any() for alpha in supernet.alphas())


def test_a_predictor_without_gradient_is_refused_in_its_own_words():
    class Trees(SmoothPredictor):
        def module(self):
            raise TypeError("'gbdt' is not differentiable: fit 'mlp'")

    with pytest.raises(TypeError, match="fit 'mlp'"):
        LatencyLoss(Trees(SPACES[1]))


@every_space
def test_alphas_of_another_shape_are_refused(space):
    latency = LatencyLoss(SmoothPredictor(space))
    with pytest.raises(ShapeError, match=r"\(3, 2\)") as refusal:
        latency([torch.zeros(3, 2)])
    assert str(space.relaxation().shapes[0]) in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": "hinge"}, "needs a target"),
        ({"penalty": "hnige", "target": 1.0}, "no penalty named 'hnige': choose one of linear, hinge"),
        ({"target": 0.0}, "target is 0.0"),
        ({"target": float("nan")}, "target is nan"),
        ({"target": float("inf")}, "target is inf"),
        ({"target": "1.2"}, "target is '1.2': give a positive number"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"weight": float("nan")}, "weight is nan: give a number that is at least 0"),
        ({"weight": float("inf")}, "weight is inf"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"weight": "1"}, "weight is '1'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        LatencyLoss(SmoothPredictor(SPACES[1]), **options)


def test_what_is_no_predictor_is_refused():
    with pytest.raises(UsageError, match=r"not a path: LatencyLoss\(latbench.load_predictor\('mlp.safetensors'\)\)"):
        LatencyLoss("mlp.safetensors")
    with pytest.raises(UsageError, match="'dict' is not a predictor with a space, a unit and a module"):
        LatencyLoss({})


@every_space
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("double", [False, True])
def test_alphas_of_any_precision_get_gradients_in_theirs(space, dtype, double):
    latency = LatencyLoss(SmoothPredictor(space), weight=3.0)
    alphas = [alpha.detach().to(dtype).requires_grad_() for alpha in random_alphas(space)]
    same = [alpha.detach().float().requires_grad_() for alpha in alphas]
    expected = latency(same)
    penalty = latency.double()(alphas) if double else latency(alphas)
    assert penalty.dtype == torch.promote_types(dtype, torch.float32)
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = torch.autograd.grad(penalty, alphas)
    assert {gradient.dtype for gradient in gradients} == {dtype}
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, same), strict=True):
        torch.testing.assert_close(gradient.float(), reference, rtol=0.02, atol=1e-5)


@every_space
def test_it_compiles_into_one_graph_and_has_second_gradients(space):
    latency, alphas = LatencyLoss(SmoothPredictor(space)), random_alphas(space)
    compiled = torch.compile(latency, backend="eager", fullgraph=True)
    assert compiled(alphas).item() == pytest.approx(latency(alphas).item(), rel=1e-6)
    precise = random_alphas(space, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda *values: latency.double()(values), precise)


class Indexed(nn.Module):
    """A module whose first buffer holds indices."""

    def __init__(self):
        super().__init__()
        self.register_buffer("chosen", torch.tensor([0, 1]))
        self.register_buffer("coef", torch.tensor([1.0, 2.0]))

    def forward(self, encoding: Tensor) -> Tensor:
        return encoding[..., self.chosen] @ self.coef


def test_a_predictor_may_keep_indices():
    predictor, encoding = SmoothPredictor(SPACES[1]), torch.full((30,), 0.5)
    predictor.network = Indexed()
    assert LatencyLoss(predictor, target=1.0).of(encoding).item() == 1.5


def test_the_predictor_follows_to_another_device():
    latency = LatencyLoss(SmoothPredictor(SPACES[1])).to("meta")
    assert {buffer.device.type for buffer in latency.predictor.buffers()} == {"meta"}
    penalty = latency(
        [torch.zeros(shape, device="meta", requires_grad=True) for shape in SPACES[1].relaxation().shapes]
    )
    assert (penalty.device.type, penalty.shape) == ("meta", ())


class Elsewhere(nn.Module):
    """A module on another device, which sees where its input is."""

    def __init__(self):
        super().__init__()
        self.register_buffer("coef", torch.ones(1, device="meta"))

    def forward(self, encoding: Tensor) -> Tensor:
        assert encoding.device.type == "meta"
        return torch.ones(encoding.shape[:-1])


def test_alphas_on_another_device_than_the_predictor_are_taken_to_it():
    predictor = SmoothPredictor(SPACES[1])
    predictor.network = Elsewhere()
    assert LatencyLoss(predictor, target=2.0)(random_alphas(SPACES[1])).item() == 0.5


class Unrelaxed:
    """A space without a relaxation."""

    sample = encode = build = None


def test_a_space_without_a_relaxation_is_refused_in_words():
    predictor = SimpleNamespace(space=Unrelaxed(), unit="ms", module=lambda: None)
    with pytest.raises(UsageError, match="space 'Unrelaxed' has no relaxation, so alphas mean nothing in it: give"):
        LatencyLoss(predictor)

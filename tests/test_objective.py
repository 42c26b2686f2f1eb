"""Objectives: the reward, the constraint, and the modules that anyone's loop can use."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from latbench.errors import NotDifferentiableError, UsageError
from latbench.search import DualAscent, LatencyLoss, Objective, Temperature
from latbench.search.objectives.objective import HARD, SOFT
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.testing import KnownCost

SPACE = NasBench201Space(cells=1, channels=4, image=8)
NETWORKS = SPACE.sample(40, seed=0)
KNOWN = KnownCost(SPACE)
VALUES = KNOWN.predict(NETWORKS)
TARGET = float(np.median(VALUES))


class Uncertain(KnownCost):
    """A predictor that is off by a tenth of a millisecond, one standard deviation."""

    def predict(self, architectures, return_std=False):
        values = super().predict(architectures)
        return (values, np.full(len(values), 0.1)) if return_std else values


def test_the_soft_reward_is_mnasnets():
    scores = np.linspace(0.5, 0.9, len(NETWORKS))
    expected = scores * (VALUES / TARGET) ** -0.07
    np.testing.assert_allclose(Objective(KNOWN, TARGET).reward(scores, NETWORKS), expected)
    twice = Objective(KNOWN, VALUES[0] / 2).reward(1.0, NETWORKS[:1], exponents=SOFT)
    assert twice[0] == pytest.approx(2**-0.07)


def test_the_hard_reward_is_the_score_up_to_the_target():
    rewards = Objective(KNOWN, TARGET).reward(0.8, NETWORKS, exponents=HARD)
    np.testing.assert_allclose(rewards[VALUES <= TARGET], 0.8)
    np.testing.assert_allclose(rewards[VALUES > TARGET], 0.8 * TARGET / VALUES[VALUES > TARGET])


@pytest.mark.parametrize(
    ("target", "score", "exponents", "message"),
    [
        (None, 0.5, SOFT, "relative to a target"),
        (1.0, -0.5, SOFT, "score is -0.5, and a reward multiplies scores"),
        (1.0, math.nan, SOFT, "score is nan, and"),
        (1.0, 0.5, (0.0, 1.0), "reward slower architectures"),
    ],
)
def test_a_reward_without_meaning_is_refused(target, score, exponents, message):
    with pytest.raises(UsageError, match=message):
        Objective(KNOWN, target).reward(score, NETWORKS, exponents=exponents)


def test_a_reward_relative_to_nothing_is_refused():
    with pytest.raises(UsageError, match="a reward needs positive predictions"):
        Objective(KnownCost(SPACE, np.zeros(len(SPACE.columns)), base=0.0), 1.0).reward(0.5, NETWORKS)


def test_what_takes_the_target_at_most_meets_it():
    np.testing.assert_array_equal(Objective(KNOWN, TARGET).meets(NETWORKS), VALUES <= TARGET)
    assert Objective(KNOWN).meets(NETWORKS).all()


def test_confidence_asks_for_a_margin_of_so_many_deviations():
    objective = Objective(Uncertain(SPACE), TARGET)
    np.testing.assert_array_equal(objective.meets(NETWORKS, confidence=0.5), VALUES <= TARGET)
    sure = objective.meets(NETWORKS, confidence=0.975)
    np.testing.assert_array_equal(sure, VALUES + 1.959964 * 0.1 <= TARGET)
    assert 0 < sure.sum() < (VALUES <= TARGET).sum()


def test_confidence_needs_a_predictor_that_knows_its_deviation():
    with pytest.raises(UsageError, match="gives no standard deviations"):
        Objective(KNOWN, TARGET).meets(NETWORKS, confidence=0.9)
    for confidence in (0.0, 1.0, 95, math.nan):
        with pytest.raises(UsageError, match="between 0 and 1"):
            Objective(Uncertain(SPACE), TARGET).meets(NETWORKS, confidence=confidence)


def test_the_loss_is_the_one_of_the_form():
    alphas = [torch.zeros(shape, requires_grad=True) for shape in SPACE.relaxation().shapes]
    for form in ("hinge", "linear"):
        ours = Objective(KNOWN, TARGET, form).loss()
        assert ours(alphas).item() == LatencyLoss(KNOWN, target=TARGET, penalty=form)(alphas).item()
    assert Objective(KNOWN).loss()(alphas).item() == 0.0


def test_a_predictor_without_gradient_meets_and_rewards_but_is_no_loss():
    class Trees(KnownCost):
        def module(self):
            raise NotDifferentiableError("'gbdt' is not differentiable: use 'mlp'")

    objective = Objective(Trees(SPACE), TARGET)
    assert objective.meets(NETWORKS).any()
    with pytest.raises(NotDifferentiableError):
        objective.loss()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"target": 0.0}, "target is 0.0"), ({"target": math.nan}, "target is nan"), ({"form": "hnige"}, "no form named")],
)
def test_wrong_objectives_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Objective(KNOWN, **options)


def hinge(target=None):
    return LatencyLoss(KNOWN, target=TARGET if target is None else target, penalty="hinge")


def test_the_multiplier_grows_by_rate_times_penalty_while_the_target_is_exceeded():
    encoding = torch.from_numpy(SPACE.encode([NETWORKS[int(VALUES.argmax())]])[0])
    ascent, penalty = DualAscent(hinge(), rate=0.5), hinge().of(encoding).item()
    given = [ascent.of(encoding).item() for _ in range(3)]
    assert given == pytest.approx([0.0, 0.5 * penalty**2, 2 * 0.5 * penalty**2])
    assert float(ascent.multiplier) == pytest.approx(1.5 * penalty)


def test_the_multiplier_rests_at_the_target_and_in_evaluation_mode():
    slow = torch.from_numpy(SPACE.encode([NETWORKS[int(VALUES.argmax())]])[0])
    ascent = DualAscent(hinge(2 * VALUES.max()))
    ascent.of(slow)
    assert float(ascent.multiplier) == 0.0
    ascent = DualAscent(hinge()).eval()
    ascent.of(slow)
    assert float(ascent.multiplier) == 0.0


def test_gradients_of_a_step_use_the_multiplier_of_that_step():
    alphas = [torch.zeros(shape, requires_grad=True) for shape in SPACE.relaxation().shapes]
    ascent = DualAscent(hinge(0.5 * TARGET))
    ascent(alphas)
    before = float(ascent.multiplier)
    weighted = ascent(alphas)
    (gradient,) = torch.autograd.grad(weighted, alphas)
    (plain,) = torch.autograd.grad(hinge(0.5 * TARGET)(alphas), alphas)
    torch.testing.assert_close(gradient, before * plain)


def test_a_checkpoint_holds_multiplier_and_temperature():
    slow = torch.from_numpy(SPACE.encode([NETWORKS[int(VALUES.argmax())]])[0])
    ascent, temperature = DualAscent(hinge()), Temperature(1.0, 0.1, 4)
    ascent.of(slow)
    temperature.step()
    again, later = DualAscent(hinge()), Temperature(1.0, 0.1, 4)
    again.load_state_dict(ascent.state_dict())
    later.load_state_dict(temperature.state_dict())
    assert float(again.multiplier) == float(ascent.multiplier) > 0
    assert later.value == temperature.value < 1


def test_only_a_hinge_has_a_multiplier():
    with pytest.raises(UsageError, match="linear penalty would grow for ever"):
        DualAscent(LatencyLoss(KNOWN, target=1.0))
    with pytest.raises(UsageError, match="rate"):
        DualAscent(hinge(), rate=-1.0)


def test_a_temperature_falls_by_the_same_factor_and_stays_at_its_end():
    temperature = Temperature(0.8, 0.1, 3)
    values = [temperature.value, *(temperature.step() for _ in range(5))]
    np.testing.assert_allclose(values, [0.8, 0.4, 0.2, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 3), (1.0, -1.0, 3), (1.0, math.inf, 3), (1.0, 0.1, 0)])
def test_a_temperature_that_cannot_fall_is_refused(wrong):
    with pytest.raises(UsageError, match="temperature"):
        Temperature(*wrong)

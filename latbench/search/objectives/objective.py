"""A trained predictor with a target: one object that gives the loss, the reward and the constraint."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latbench.errors import UsageError
from latbench.search.objectives.latency_loss import LatencyLoss, SpacePredictor
from latbench.search.objectives.penalties import PENALTIES, Penalty

if TYPE_CHECKING:
    from latbench.space import Architecture, Relaxation

SOFT = (-0.07, -0.07)
"""Exponents of a reward below and above the target: twice the latency for 5% more accuracy (MnasNet, section 3.1)."""

HARD = (0.0, -1.0)
"""Exponents of a reward that leaves the score alone below the target and falls sharply above it."""


class ArchitecturePredictor(SpacePredictor, Protocol):
    """A predictor of architectures, such as `latbench.prediction.trained.TrainedPredictor`."""

    def predict(self, architectures: Sequence[Any]) -> NDArray[Any]:
        """Return predictions ``(n,)`` in `unit`; with ``return_std=True``, where it can, their deviations too."""
        ...


@dataclass(frozen=True, slots=True)
class Objective:
    """What a search is asked for, in the unit of a predictor.

    Args:
        predictor: as `latbench.fit` and `latbench.load_predictor` return it.
        target: what an architecture may take, in the predictor's unit; None for no target: the loss then has weight 0.
        form: penalty of the loss: ``"hinge"``, which is 0 at or below the target, or another one of
            `latbench.search.objectives.penalties`.

    Raises:
        UsageError: an unknown form, or a target that is not positive.
    """

    predictor: ArchitecturePredictor
    target: float | None = None
    form: Penalty = "hinge"

    def __post_init__(self) -> None:
        if self.form not in PENALTIES:
            raise UsageError(f"no form named {self.form!r}: choose one of {', '.join(PENALTIES)}")
        if self.target is not None and not 0 < self.target < math.inf:
            raise UsageError(f"target is {self.target!r}: give a positive number")

    def loss(self, *, relaxation: Relaxation[Any] | None = None) -> LatencyLoss:
        """Return the objective as a differentiable loss; without a target it has weight 0.

        Args:
            relaxation: what the alphas mean; None for the space's own.

        Raises:
            NotDifferentiableError: the predictor is not differentiable.
        """
        if self.target is None:
            return LatencyLoss(self.predictor, weight=0.0, relaxation=relaxation)
        return LatencyLoss(self.predictor, target=self.target, penalty=self.form, relaxation=relaxation)

    def reward(
        self,
        score: float | NDArray[np.floating],
        architectures: Sequence[Architecture],
        *,
        exponents: tuple[float, float] = SOFT,
    ) -> NDArray[np.float64]:
        """Return ``score * (predicted / target) ** w`` ``(n,)``: MnasNet (Tan et al., CVPR 2019), equation 2.

        Args:
            score: of each architecture ``(n,)``, or one for all; at least 0, higher is better.
            architectures: what the scores belong to.
            exponents: ``w`` up to the target and above it, each at most 0: `SOFT`, `HARD`, or your own.

        Raises:
            UsageError: there is no target, a score is negative, an exponent is positive, or a prediction is 0 or less.
        """
        if self.target is None:
            raise UsageError("a reward is relative to a target: give Objective(predictor, target=...)")
        scores = np.asarray(score, dtype=np.float64)
        if not (scores >= 0).all():
            raise UsageError(f"a score is {scores.min()}, and a reward multiplies scores: shift them to at least 0")
        if max(exponents) > 0:
            raise UsageError(f"the exponents {exponents} reward slower architectures: give numbers that are at most 0")
        ratio = self.predicted(architectures) / self.target
        if not (ratio > 0).all():
            raise UsageError(
                f"the predictor predicts {ratio.min() * self.target:.4g} {self.predictor.unit}, and a reward needs "
                "positive predictions: fit it again"
            )
        return np.asarray(scores * ratio ** np.where(ratio <= 1, *exponents))

    def meets(self, architectures: Sequence[Architecture], confidence: float | None = None) -> NDArray[np.bool_]:
        """Return for each architecture ``(n,)`` whether it is predicted to take at most the target.

        Args:
            architectures: architectures of the predictor's space.
            confidence: probability, between 0 and 1, with which the target must be met; needs a predictor that gives
                standard deviations. None compares the prediction alone.

        Raises:
            UsageError: the confidence is not such a probability, or the predictor gives no standard deviations.
        """
        if self.target is None:
            return np.ones(len(architectures), dtype=bool)
        if confidence is None:
            return np.asarray(self.predicted(architectures) <= self.target)
        if not 0 < confidence < 1:
            raise UsageError(f"confidence is {confidence}: give a probability between 0 and 1")
        if "return_std" not in inspect.signature(self.predictor.predict).parameters:
            raise UsageError(
                "the predictor gives no standard deviations of its predictions: "
                "ask without a confidence, or fit one whose predict takes return_std"
            )
        predict: Any = self.predictor.predict
        mean, deviation = predict(architectures, return_std=True)
        return np.asarray(mean + NormalDist().inv_cdf(confidence) * deviation <= self.target)

    def predicted(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the predictions ``(n,)`` for architectures, in the predictor's unit."""
        return np.asarray(self.predictor.predict(architectures), dtype=np.float64)

"""How far predictions are from measured values. Errors are relative, as fractions: 0.05 is 5%."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError, ShapeError


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The metrics of one set of predictions, or a statistic of several sets.

    Args:
        mape: mean of ``|predicted / measured - 1|``, the mean absolute percentage error.
        within_5: share of predictions off by at most 5%, the accuracy of BRP-NAS (Dudziak et al., NeurIPS 2020).
        within_10: share of predictions off by at most 10%.
        rmspe: root of the mean of ``(predicted / measured - 1)²``; single large errors weigh more than in `mape`.
        spearman: Spearman's rank correlation; NaN where all predictions or all measured values are equal.
        kendall: Kendall's tau-b; NaN likewise.
    """

    mape: float
    within_5: float
    within_10: float
    rmspe: float
    spearman: float
    kendall: float

    @classmethod
    def of(cls, measured: Any, predicted: Any) -> Self:
        """Compare predictions ``(n,)`` with measured values ``(n,)``.

        Raises:
            ShapeError: the shapes differ, or are not ``(n,)``.
            DataError: nothing to compare, or a measured value is not positive, so that there is no relative error.
        """
        truth, guess = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        if truth.ndim != 1 or truth.shape != guess.shape:
            raise ShapeError(
                f"measured {truth.shape} and predicted {guess.shape} values differ in shape: give two (n,)"
            )
        if not len(truth) or not (truth > 0).all():
            raise DataError("relative errors need at least one measured value, and all of them positive")
        error = np.abs(guess / truth - 1)
        return cls(
            mape=float(error.mean()),
            within_5=float((error <= 0.05).mean()),
            within_10=float((error <= 0.10).mean()),
            rmspe=math.sqrt(float((error**2).mean())),
            spearman=_rank_correlation("spearmanr", truth, guess),
            kendall=_rank_correlation("kendalltau", truth, guess),
        )

    @classmethod
    def mean(cls, several: list[Self]) -> Self:
        """Return the mean of each metric."""
        return cls(**{f.name: float(np.mean([getattr(one, f.name) for one in several])) for f in fields(cls)})

    @classmethod
    def spread(cls, several: list[Self]) -> Self:
        """Return the standard deviation of each metric; NaN for a single one, which has none."""
        if len(several) < 2:
            return cls(**{f.name: math.nan for f in fields(cls)})
        return cls(**{f.name: float(np.std([getattr(one, f.name) for one in several], ddof=1)) for f in fields(cls)})


def _rank_correlation(name: str, truth: NDArray[np.float64], guess: NDArray[np.float64]) -> float:
    from scipy import stats

    if np.ptp(truth) == 0 or np.ptp(guess) == 0:
        return math.nan
    return float(getattr(stats, name)(truth, guess).statistic)

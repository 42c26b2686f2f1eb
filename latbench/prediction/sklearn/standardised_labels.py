"""What scikit-learn's regressors learn from: labels with mean 0 and standard deviation 1, whatever their unit was.

Their defaults presume it: SVR ignores errors below 0.1, a Gaussian process expects 0 where it knows nothing. In 0.1 ms
the first would learn nothing at all, and in 100 ms the second would predict nonsense.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from latbench.predictor import Predictor

_DECIMALS = 9
"""Far below the noise of any measurement, far above rounding errors."""


class LabelScaler(StandardScaler):  # type: ignore[misc]
    """Standardises labels, rounded so that no rounding error of a unit decides between two equal splits of a tree."""

    def transform(self, X: Any, copy: bool | None = None) -> NDArray[np.float64]:
        """Return standardised labels ``(n, 1)``."""
        scaled: NDArray[np.float64] = super().transform(X, copy=copy)
        return scaled.round(_DECIMALS)


def with_standardised_labels(estimator: Predictor) -> Predictor:
    """Return a regressor that fits `estimator` to standardised labels and predicts in their unit.

    One that needs positive labels gets them divided by their standard deviation alone.
    """
    # scikit-learn's tag knows the regressors that need positive labels, not the losses that others take as keywords.
    losses = {str(value) for name, value in estimator.get_params().items() if name in ("loss", "criterion")}
    positive = get_tags(estimator).target_tags.positive_only or not losses.isdisjoint({"poisson", "gamma"})
    scaler = LabelScaler(with_mean=not positive)
    standardised: Predictor = TransformedTargetRegressor(estimator, transformer=scaler, check_inverse=False)
    return standardised

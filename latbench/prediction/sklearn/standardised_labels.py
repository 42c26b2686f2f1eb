"""What scikit-learn's regressors learn from: labels with mean 0 and standard deviation 1, whatever their unit was.

Their defaults presume it: SVR ignores errors below 0.1, a Gaussian process expects 0 where it knows nothing. In 0.1 ms
the first would learn nothing at all, and in 100 ms the second would predict nonsense.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils import get_tags

_DECIMALS = 9
"""Far below the noise of any measurement, far above rounding errors."""


class StandardisedLabels(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor that learns from standardised labels and predicts in their unit.

    One that needs positive labels gets them divided by their standard deviation alone.

    Args:
        regressor: what learns.

    Attributes:
        regressor_: the fitted regressor.
        mean_: what is subtracted from labels.
        scale_: what labels are divided by after that.
    """

    def __init__(self, regressor: Any) -> None:
        self.regressor = regressor

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to encodings ``(n, columns)`` and labels ``(n,)``."""
        labels = np.asarray(y, dtype=np.float64)
        self.mean_ = 0.0 if _needs_positive_labels(self.regressor) else float(labels.mean())
        self.scale_ = float(labels.std()) or 1.0
        # Rounded, so that no rounding error of a unit decides between two equal splits of a tree.
        standardised = ((labels - self.mean_) / self.scale_).round(_DECIMALS)
        self.regressor_ = clone(self.regressor).fit(X, standardised)
        self.n_features_in_ = np.shape(X)[1]
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return predictions ``(n,)``, or with `return_std` a pair: these and their standard deviations ``(n,)``.

        Raises:
            TypeError: the regressor gives no standard deviations.
        """
        if return_std:
            mean, std = self.regressor_.predict(X, return_std=True)
            return self._in_unit(mean), np.asarray(std) * self.scale_
        return self._in_unit(self.regressor_.predict(X))

    def _in_unit(self, predicted: Any) -> NDArray[np.float64]:
        return np.asarray(predicted, dtype=np.float64) * self.scale_ + self.mean_


def _needs_positive_labels(estimator: Any) -> bool:
    # scikit-learn's tag knows the regressors that need positive labels, not the losses that others take as keywords.
    losses = {str(value) for name, value in estimator.get_params().items() if name in ("loss", "criterion")}
    return get_tags(estimator).target_tags.positive_only or not losses.isdisjoint({"poisson", "gamma"})

"""The predictor ``lookup``: measured costs of single operations, summed, then corrected by a straight line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from latbench.prediction.few_samples.regression import check_column_facts, merge_rows, relative_scale
from latbench.predictor import ColumnFacts


class LookupRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """An operator table: ``slope * (encoding · costs) + intercept``.

    The sum of operator latencies lacks the stem, the head and whatever a runtime fuses or overlaps; it still correlates
    strongly with the whole, so a line fitted to a few architectures (weighted by 1/y²) repairs it. This is the
    predictor of ProxylessNAS (Cai et al., ICLR 2019, section 3.3) and FBNet (Wu et al., CVPR 2019, section 3.2) with
    that correction added.

    Args:
        costs: the cost of each column, in any unit; None counts every column as 1.

    Attributes:
        coef_: what each column adds to the prediction ``(columns,)``.
        intercept_: what an architecture without any of them would cost.
    """

    def __init__(self, *, costs: Sequence[float] | None = None) -> None:
        self.costs = costs

    def set_column_facts(self, facts: ColumnFacts) -> Self:
        """Take over the profile's operator table, if it has one."""
        if facts.costs is not None:
            self.costs = facts.costs
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the line to encodings ``(n, columns)`` and labels ``(n,)``.

        Raises:
            ValueError: there is not one cost for each column.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        check_column_facts(X.shape[1], costs=self.costs)
        costs = np.ones(X.shape[1]) if self.costs is None else np.asarray(self.costs, dtype=np.float64)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        X, y, weight = merge_rows(X, y, weight)
        weight /= relative_scale(y) ** 2
        total = X @ costs
        centred = total - np.average(total, weights=weight)
        variance = np.average(centred**2, weights=weight)
        # Sums that hardly vary (every column costs the same) leave the mean as the only prediction.
        constant = variance <= (1e-9 * np.abs(total).max()) ** 2
        slope = 0.0 if constant else np.average(centred * y, weights=weight) / variance
        self.coef_ = slope * costs
        self.intercept_ = float(np.average(y - slope * total, weights=weight))
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings ``(n, columns)``, relaxed ones included."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(X @ self.coef_ + self.intercept_)

    def module(self) -> torch.nn.Module:
        """Return a float32 module from encodings ``(..., columns)`` to predictions ``(...)``."""
        check_is_fitted(self)
        return _Line(torch.tensor(self.coef_), torch.tensor(self.intercept_)).float()

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the line."""
        check_is_fitted(self)
        return {"coef": self.coef_, "intercept": np.array([self.intercept_])}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore what `to_arrays` returned.

        Raises:
            ValueError: the arrays are not such a state.
        """
        if arrays.keys() != {"coef", "intercept"} or arrays["coef"].ndim != 1 or arrays["intercept"].shape != (1,):
            raise ValueError("a lookup predictor is two arrays: 'coef' (columns,) and 'intercept' (1,)")
        self.coef_ = np.asarray(arrays["coef"], dtype=np.float64)
        self.intercept_ = float(arrays["intercept"][0])
        self.n_features_in_ = len(self.coef_)
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Without a table there is nothing but the sum of the columns to regress on.
        tags.regressor_tags.poor_score = True
        return tags


class _Line(torch.nn.Module):
    def __init__(self, coef: torch.Tensor, intercept: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("coef", coef)
        self.register_buffer("intercept", intercept)

    def forward(self, encoding: torch.Tensor) -> torch.Tensor:
        return encoding @ self.get_buffer("coef") + self.get_buffer("intercept")

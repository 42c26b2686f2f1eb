"""The predictor ``lookup``: measured costs of single operations, summed, then corrected by a straight line."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils import Tags
from sklearn.utils.validation import _check_sample_weight, validate_data

from latbench.prediction.few_samples.expansion import Expansion
from latbench.prediction.few_samples.line_regressor import LineRegressor
from latbench.prediction.few_samples.regression import merge_rows, relative_scale
from latbench.predictor import Context


class LookupRegressor(LineRegressor):
    """An operator table: ``slope * (sum of the measured operations) + intercept``.

    The sum of operation latencies lacks the stem, the head and what a runtime fuses or overlaps; it still correlates
    strongly with the whole, so a line fitted to a few architectures (weighted by 1/y²) repairs it. This is the
    predictor of ProxylessNAS (Cai et al., ICLR 2019, section 3.3) and FBNet (Wu et al., CVPR 2019, section 3.2) with
    that correction added.

    Attributes:
        coef_: what each column of an expanded encoding (`latbench.prediction.few_samples.expansion`) adds, in the
            labels' unit.
        intercept_: the prediction for an encoding of zeros.
        expansion_: gives the expanded encoding.
    """

    needs_costs = True

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, context: Context | None = None) -> Self:
        """Fit the line to encodings ``(n, columns)`` and labels ``(n,)``.

        Without a context every column costs the same, which tells one-hot encodings nothing apart.

        Raises:
            ValueError: the context has other columns or no costs, or its costs have the same sum for all rows.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        expand = Expansion.of(context, X.shape[1])
        if context is not None and expand.costs is None:
            raise ValueError(
                "lookup builds on measured operations: measure them (latbench profile --operators), or use mlp"
            )
        costs = np.ones(X.shape[1]) if expand.costs is None else expand.costs
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        X, y, weight = merge_rows(X, y, weight)
        weight /= relative_scale(y) ** 2
        total = expand(X) @ costs
        centred = total - np.average(total, weights=weight)
        variance = np.average(centred**2, weights=weight)
        constant = variance <= (1e-9 * np.abs(total).max()) ** 2
        if constant and context is not None:
            raise ValueError(
                "the measured operations of all these architectures have the same sum: use mlp, or profile other ones"
            )
        slope = 0.0 if constant else np.average(centred * y, weights=weight) / variance
        self.coef_ = slope * costs
        self.intercept_ = float(np.average(y - slope * total, weights=weight))
        self.expansion_ = expand
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Without a table there is nothing but the sum of the columns to regress on.
        tags.regressor_tags.poor_score = True
        return tags

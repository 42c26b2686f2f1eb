"""The predictor ``additive``: a line on the columns of an encoding and, where they explain more, of its graph."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import _check_sample_weight, validate_data

from latbench.prediction.few_samples.expansion import column_sets
from latbench.prediction.few_samples.line_regressor import LineRegressor
from latbench.prediction.few_samples.regression import left_out_errors, merge_rows
from latbench.prediction.few_samples.robust_line import fit_robust_line
from latbench.predictor import Context


class AdditiveRegressor(LineRegressor):
    """A sum of what operations cost, shrunken towards the groups of their columns.

    Where the space tells its graph (`latbench.space.HasGraph`), the likelihood of the labels decides whether dead
    operations cost nothing, and whether sums and shared nodes cost something: `latbench.prediction.structure`. The line
    is `latbench.prediction.few_samples.robust_line`. It has no relaxation gap: its prediction for a relaxed encoding is
    what it predicts on average for the architectures that are drawn from it, edge by edge.

    Attributes:
        coef_: what each column of an expanded encoding (`latbench.prediction.few_samples.expansion`) adds.
        intercept_: the prediction for an encoding of zeros.
        expansion_: gives the expanded encoding.
        left_out_: see `latbench.predictor.KnowsItsErrors`.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, context: Context | None = None) -> Self:
        """Fit to encodings ``(n, columns)`` and labels ``(n,)``.

        Raises:
            ValueError: the context has other columns.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        sets = column_sets(context, X.shape[1])
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        X, y, weight = merge_rows(X, y, weight)
        # With a mean label of 1 all numbers mean the same in every unit.
        unit = float(np.abs(y).mean()) or 1.0
        chosen, line = fit_robust_line(sets, X, y / unit, weight)
        self.coef_, self.intercept_ = unit * chosen.unmixed(line.coef), unit * line.intercept
        self.expansion_ = chosen.expansion
        self.left_out_ = left_out_errors(y, y - unit * line.left_out)
        return self

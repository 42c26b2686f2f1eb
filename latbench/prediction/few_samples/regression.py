"""What few-sample predictors share: relative weights, merged rows, and the groups of an encoding's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

Matrix = NDArray[np.float64]


def fitted_encodings(estimator: Any, X: Any) -> Matrix:
    """Return what a fitted estimator is to predict for ``(n, columns)``; what is no such array goes to scikit-learn.

    scikit-learn's own checks take ten times as long as predicting one architecture does.

    Raises:
        NotFittedError: it is not fitted.
        ValueError: not a finite matrix of as many columns as it was fitted to.
    """
    check_is_fitted(estimator)
    if (
        type(X) is np.ndarray
        and X.shape == (len(X), estimator.n_features_in_)
        and X.dtype in (np.float32, np.float64)
        and len(X)
        and np.isfinite(X.sum())
        and not hasattr(estimator, "feature_names_in_")
    ):
        return X.astype(np.float64, copy=False)
    return np.asarray(validate_data(estimator, X, dtype=np.float64, reset=False))


def merge_rows(X: Matrix, y: Matrix, sample_weight: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Merge equal encodings into one row with their summed weight and weighted mean label; drop rows of weight 0.

    Repeated architectures then neither straddle the folds of a fit nor count as evidence about its noise, and a
    weight of 2 means exactly the same as a repeated row.

    Args:
        X: encodings ``(n, columns)``.
        y: labels ``(n,)``.
        sample_weight: not negative ``(n,)``.

    Returns:
        The distinct rows in sorted order, their labels and their weights.
    """
    used = sample_weight > 0
    rows, place = np.unique(X[used], axis=0, return_inverse=True)
    weight: Matrix = np.bincount(place, sample_weight[used]).astype(np.float64)
    first_label = np.zeros(len(rows))
    first_label[place] = y[used]
    # The mean is taken of differences, so that equal labels stay equal to the last bit.
    shift = np.bincount(place, sample_weight[used] * (y[used] - first_label[place]))
    return rows, first_label + shift / weight, weight


def relative_scale(y: Matrix) -> Matrix:
    """Return what errors are divided by to become relative ``(n,)``: the label, and at least a tenth of the median.

    Squared relative errors fit a mean relative error far better than squared errors do. The bound keeps a single label
    near zero, such as a network whose every path is dead, from ruling the fit. Labels that are not all positive have no
    relative errors: all of them get the same scale.
    """
    if y.min() <= 0:
        return np.full(len(y), np.abs(y).max() or 1.0)
    return np.maximum(y, np.median(y) / 10)


def left_out_errors(y: Matrix, unseen: Matrix) -> Matrix:
    """Return ``label / prediction - 1`` ``(n,)``; what nothing takes counts as a tenth of the median label."""
    least = max(float(np.median(y)) / 10, np.finfo(float).tiny)
    return np.asarray(y / np.maximum(unseen, least) - 1)


def group_matrix(groups: Sequence[str]) -> Matrix:
    """Return the 0/1 matrix ``(columns, distinct groups)`` that turns an encoding into counts of its groups."""
    names = list(dict.fromkeys(groups))
    return np.array([[group == name for name in names] for group in groups], dtype=np.float64)

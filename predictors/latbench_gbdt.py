"""The predictor ``gbdt``: gradient-boosted trees with linear leaves, on an encoding and on what its columns mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from latbench.prediction.few_samples.expansion import Expansion
from latbench.prediction.few_samples.regression import (
    Matrix,
    fitted_encodings,
    group_matrix,
    merge_rows,
    relative_scale,
)
from latbench.predictor import Context

CHUNK = 64
"""Rows that are predicted at once: what the trees make of more does not stay in a core's cache."""


class GbdtRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """LightGBM on squared relative errors.

    A latency is close to a sum, which trees with constant leaves approximate poorly: small trees whose leaves hold
    linear models (Shi et al., "Gradient Boosting with Piece-Wise Linear Regression Trees", IJCAI 2019) need far fewer
    architectures.

    Args:
        n_estimators: number of trees.
        learning_rate: what each tree's prediction is multiplied by.
        num_leaves: leaves of a tree.
        min_child_samples: the fewest architectures in a leaf.
        linear_lambda: L2 penalty of the linear models in the leaves.
        random_state: LightGBM's seed.

    Attributes:
        expansion_: expands an encoding (`latbench.prediction.few_samples.expansion`).
        counts_: features that follow the expanded encoding ``(expanded columns, counts)``: the count of each group and,
            where the profile has an operator table, the sum of the costs as multiples of their mean.
        trees_: the fitted trees as arrays, see `_blank_trees`. LightGBM fits them, but does not read them back:
            its parser aborts the whole process on a malformed text.
    """

    def __init__(
        self,
        *,
        n_estimators: int = 200,
        learning_rate: float = 0.05,
        num_leaves: int = 4,
        min_child_samples: int = 5,
        linear_lambda: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.linear_lambda = linear_lambda
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, context: Context | None = None) -> Self:
        """Fit to encodings ``(n, columns)`` and labels ``(n,)``.

        Raises:
            ValueError: the context has other columns.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        expand = Expansion.of(context, X.shape[1])
        self.expansion_, self.counts_ = expand, _counts(expand)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        X, y, weight = merge_rows(X, y, weight)
        weight /= relative_scale(y) ** 2
        # LightGBM's penalties are absolute and it rounds labels to float32: with a mean weight and a mean label of 1
        # they mean the same in every unit.
        unit = float(np.abs(y).mean()) or 1.0
        data = lightgbm.Dataset(self._features(X), y / unit, weight=weight / weight.mean())
        parameters = {
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_child_samples,
            "min_data_in_bin": 1,
            "linear_tree": True,
            "linear_lambda": self.linear_lambda,
            "seed": check_random_state(self.random_state).randint(2**31 - 1),
            "num_threads": 1,
            "verbose": -1,
        }
        booster = lightgbm.train(parameters, data, self.n_estimators)
        self.trees_ = _trees(booster.dump_model()["tree_info"], self.num_leaves)
        for name in ("constant", "leaf_coef"):
            self.trees_[name] *= unit
        self.forest_ = _Forest(self.trees_)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings ``(n, columns)``."""
        X = fitted_encodings(self, X)
        return self.forest_(self._features(X))

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the trees."""
        check_is_fitted(self)
        return {**self.expansion_.to_arrays(), "counts": self.counts_, **self.trees_}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore what `to_arrays` returned.

        Raises:
            ValueError: the arrays are not such a state.
        """
        names = _blank_trees(0, 1)
        if arrays.keys() != {"products", "sums", "counts", *names}:
            raise ValueError(f"a gbdt predictor has the arrays products, sums, counts, {', '.join(names)}")
        if arrays["counts"].ndim != 2 or arrays["counts"].dtype != np.float64:
            raise ValueError("the counts of a gbdt predictor must be numbers of shape (expanded columns, counts)")
        self.n_features_in_ = len(arrays["counts"]) - len(arrays["products"])
        self.expansion_, self.counts_ = Expansion.from_arrays(arrays, self.n_features_in_), arrays["counts"]
        self.trees_ = {name: arrays[name] for name in names}
        _check(self.trees_, sum(self.counts_.shape))
        self.forest_ = _Forest(self.trees_)
        return self

    def _features(self, X: Matrix) -> Matrix:
        expanded = self.expansion_(X)
        return np.hstack([expanded, expanded @ self.counts_])


def _counts(expand: Expansion) -> Matrix:
    """Return the matrix ``(expanded columns, counts)`` that turns expanded columns into counts and a cost.

    The penalty of a leaf's line is absolute, so a feature must not depend on the unit of the costs.
    """
    counts = np.empty((expand.expanded_width, 0)) if expand.groups is None else group_matrix(expand.groups)
    if expand.costs is None:
        return counts
    return np.column_stack([counts, expand.costs / (expand.costs.mean() or 1.0)])


def _blank_trees(count: int, leaves: int) -> dict[str, NDArray[Any]]:
    """Return trees as arrays, all zero.

    ``feature`` and ``threshold`` ``(trees, splits)`` and ``children`` ``(trees, splits, 2)`` are the splits: left where
    the feature is at most the threshold; a child is the number of a later split, or -1 - leaf. The value of a leaf is
    ``constant`` ``(trees, leaves)`` plus the features ``leaf_feature`` times ``leaf_coef``, both
    ``(trees, leaves, splits)``.
    """
    splits = leaves - 1
    return {
        "feature": np.zeros((count, splits), dtype=np.int64),
        "threshold": np.zeros((count, splits)),
        "children": np.zeros((count, splits, 2), dtype=np.int64),
        "constant": np.zeros((count, leaves)),
        "leaf_feature": np.zeros((count, leaves, splits), dtype=np.int64),
        "leaf_coef": np.zeros((count, leaves, splits)),
    }


def _trees(dump: list[dict[str, Any]], leaves: int) -> dict[str, NDArray[Any]]:
    """Turn LightGBM's nested trees into arrays."""
    trees = _blank_trees(len(dump), leaves)
    # Unused splits of a small tree lead to its first leaf.
    trees["children"] -= 1

    def write(number: int, node: dict[str, Any]) -> int:
        """Write a node and all below it; return the number by which its parent knows it."""
        if "split_index" in node:
            split = int(node["split_index"])
            trees["feature"][number, split] = node["split_feature"]
            trees["threshold"][number, split] = node["threshold"]
            trees["children"][number, split] = write(number, node["left_child"]), write(number, node["right_child"])
            return split
        leaf = int(node.get("leaf_index", 0))
        trees["constant"][number, leaf] = node.get("leaf_const", node["leaf_value"])
        used = node.get("leaf_features", [])
        trees["leaf_feature"][number, leaf, : len(used)] = used
        trees["leaf_coef"][number, leaf, : len(used)] = node.get("leaf_coeff", [])
        return -1 - leaf

    for number, tree in enumerate(dump):
        write(number, tree["tree_structure"])
    return trees


class _Forest:
    """Trees of `_blank_trees` as one list of nodes, of which all trees are walked at once.

    A leaf is a node that leads to itself.
    """

    def __init__(self, trees: Mapping[str, NDArray[Any]]) -> None:
        children, constant = trees["children"], trees["constant"]
        count, splits = trees["feature"].shape
        leaves = splits + 1
        self._roots = np.arange(count) * (splits + leaves)
        inner = np.where(children < 0, splits - 1 - children, children) + self._roots[:, None, None]
        ends = np.repeat(self._roots[:, None] + splits + np.arange(leaves), 2, axis=1).reshape(count, leaves, 2)
        self._children = np.concatenate([inner, ends], axis=1).ravel()
        self._feature = np.pad(trees["feature"], ((0, 0), (0, leaves))).ravel()
        self._threshold = np.pad(trees["threshold"], ((0, 0), (0, leaves))).ravel()
        self._constant = np.pad(constant, ((0, 0), (splits, 0))).ravel()
        self._leaf_feature, self._leaf_coef = (
            np.pad(trees[name], ((0, 0), (splits, 0), (0, 0))).reshape(-1, splits)
            for name in ("leaf_feature", "leaf_coef")
        )

    def __call__(self, features: Matrix) -> Matrix:
        """Return the sum of the values of the leaves that each row ``(n, features)`` falls into."""
        return np.concatenate([self._sums(features[at : at + CHUNK]) for at in range(0, len(features), CHUNK)])

    def _sums(self, features: Matrix) -> Matrix:
        flat, row = features.ravel(), np.arange(len(features))[:, None] * features.shape[1]
        node = np.broadcast_to(self._roots, (len(features), len(self._roots)))
        before = None
        while before is None or not np.array_equal(node, before):
            before = node
            right = flat.take(self._feature.take(node) + row) > self._threshold.take(node)
            node = self._children.take(2 * node + right)
        slopes, columns = self._leaf_coef.take(node, axis=0), self._leaf_feature.take(node, axis=0)
        linear = np.einsum("ntk,ntk->n", slopes, flat.take(columns + row[:, :, None]))
        return np.asarray(self._constant.take(node).sum(axis=1) + linear)


def _check(trees: Mapping[str, NDArray[Any]], features: int) -> None:
    """Check that every index is in range, and that every path ends in a leaf."""
    constant, children = trees["constant"], trees["children"]
    if constant.ndim != 2 or constant.shape[1] < 2 or children.shape != (len(constant), constant.shape[1] - 1, 2):
        raise ValueError("the arrays of the trees do not fit together")
    for name, blank in _blank_trees(*constant.shape).items():
        if (trees[name].shape, trees[name].dtype) != (blank.shape, blank.dtype):
            raise ValueError(
                f"the trees' {name} is {trees[name].dtype} {trees[name].shape}, not {blank.dtype} {blank.shape}"
            )
    leaves, splits = constant.shape[1], constant.shape[1] - 1
    used = np.concatenate([trees["feature"].ravel(), trees["leaf_feature"].ravel()])
    later = (children > np.arange(splits)[:, None]) & (children < splits)
    leaf = (children < 0) & (children >= -leaves)
    if not (((used >= 0) & (used < features)).all() and (later | leaf).all()):
        raise ValueError("a tree has an index out of range")

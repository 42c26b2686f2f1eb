"""scikit-learn's regression trees as plain arrays that numpy alone evaluates, so that they can come from a file.

scikit-learn's own trees hold node numbers that native code follows unchecked: a crafted file would read foreign memory
or end the process. Here every index is checked when the arrays are read, and numpy checks it again when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor
from sklearn.utils.validation import validate_data

_ARRAYS = {
    "roots": np.dtype(np.int32),
    "feature": np.dtype(np.int32),
    "threshold": np.dtype(np.float64),
    "children": np.dtype(np.int32),
    "value": np.dtype(np.float64),
}


class TreeEnsemble(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """What a fitted tree, forest or boosted ensemble of scikit-learn predicts: a constant plus one leaf of each tree.

    Attributes:
        constant: what is added to the leaves.
        single_precision: whether encodings are rounded to float32 before they meet a threshold, as they are in
            scikit-learn's trees, except those grown on histograms.
        roots: the node that each tree starts from ``(trees,)``.
        feature: the column that a node compares ``(nodes,)``.
        threshold: an encoding goes left where the column is at most this ``(nodes,)``.
        children: the nodes on the left and on the right ``(nodes, 2)``, both of a higher number; a leaf is its own.
        value: what a leaf adds ``(nodes,)``.
        n_features_in_: columns of an encoding.
    """

    constant: float
    single_precision: bool
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    children: NDArray[np.int32]
    value: NDArray[np.float64]
    n_features_in_: int

    @classmethod
    def of(cls, estimator: Any) -> Self | None:
        """Return the trees of a fitted estimator; None if it is not fitted, or predicts more than a sum of trees."""
        grown = _grown(estimator)
        if grown is None:
            return None
        sizes = [len(tree.value) for tree in grown.trees]
        roots = np.cumsum([0, *sizes[:-1]])
        ensemble = cls()
        ensemble.__setstate__(
            {
                "constant": grown.constant,
                "single_precision": grown.single_precision,
                "n_features_in_": int(estimator.n_features_in_),
                "roots": roots.astype(np.int32),
                "feature": np.concatenate([tree.feature for tree in grown.trees]).astype(np.int32),
                "threshold": np.concatenate([tree.threshold for tree in grown.trees]),
                "children": np.concatenate(
                    [tree.children + root for tree, root in zip(grown.trees, roots, strict=True)]
                ).astype(np.int32),
                "value": grown.weight * np.concatenate([tree.value for tree in grown.trees]),
            }
        )
        return ensemble

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings ``(n, columns)``."""
        X = validate_data(self, X, dtype=np.float32 if self.single_precision else np.float64, reset=False)
        rows, total = np.arange(len(X)), np.full(len(X), self.constant)
        for root in self.roots:
            node = np.full(len(X), root)
            following = self._step(X, rows, node)
            while (following != node).any():
                node, following = following, self._step(X, rows, following)
            total += self.value[node]
        return total

    def _step(self, X: NDArray[Any], rows: NDArray[Any], node: NDArray[np.int32]) -> NDArray[np.int32]:
        right = X[rows, self.feature[node]] > self.threshold[node]
        following: NDArray[np.int32] = self.children[node, right.astype(np.intp)]
        return following

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over the attributes of another ensemble, perhaps from a file.

        Raises:
            ValueError: they are not such attributes, an index is out of range, or a path does not end in a leaf.
        """
        _check(state)
        self.__dict__.update(state)


@dataclass(frozen=True, slots=True)
class _Tree:
    """One tree, its nodes numbered from 0."""

    feature: NDArray[Any]
    threshold: NDArray[Any]
    children: NDArray[Any]
    value: NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Grown:
    """The trees of an estimator, whose leaves add ``weight * value``."""

    trees: Sequence[_Tree]
    weight: float = 1.0
    constant: float = 0.0
    single_precision: bool = True


def _grown(estimator: Any) -> _Grown | None:
    """Return the trees of an estimator if they are all that it predicts with; a subclass may do anything else."""
    kind = type(estimator)
    if kind in (DecisionTreeRegressor, ExtraTreeRegressor) and hasattr(estimator, "tree_"):
        return _Grown([_tree(estimator)])
    if kind in (RandomForestRegressor, ExtraTreesRegressor) and hasattr(estimator, "estimators_"):
        return _Grown([_tree(each) for each in estimator.estimators_], 1 / len(estimator.estimators_))
    if kind is GradientBoostingRegressor and type(getattr(estimator, "init_", None)) is DummyRegressor:
        trees = [_tree(each) for each in estimator.estimators_[:, 0]]
        return _Grown(trees, estimator.learning_rate, float(estimator.init_.constant_[0, 0]))
    if kind is HistGradientBoostingRegressor and hasattr(estimator, "_predictors"):
        nodes = [predictor.nodes for (predictor,) in estimator._predictors]
        # The losses "poisson" and "gamma" predict the exponential of the sum.
        if estimator.loss not in ("poisson", "gamma") and not any(each["is_categorical"].any() for each in nodes):
            constant = float(np.ravel(estimator._baseline_prediction)[0])
            return _Grown([_histogram_tree(each) for each in nodes], 1.0, constant, single_precision=False)
    return None


def _tree(estimator: Any) -> _Tree:
    tree = estimator.tree_
    leaf, children = tree.children_left < 0, np.stack([tree.children_left, tree.children_right], axis=1)
    return _closed(leaf, _Tree(tree.feature, tree.threshold, children, tree.value[:, 0, 0]))


def _histogram_tree(nodes: Any) -> _Tree:
    children = np.stack([nodes["left"], nodes["right"]], axis=1)
    tree = _Tree(nodes["feature_idx"], nodes["num_threshold"], children, nodes["value"])
    return _closed(nodes["is_leaf"] == 1, tree)


def _closed(leaf: NDArray[np.bool_], tree: _Tree) -> _Tree:
    """Return the tree with leaves that lead to themselves, whatever scikit-learn writes there."""
    children = np.where(leaf[:, None], np.arange(len(leaf))[:, None], tree.children)
    return _Tree(np.where(leaf, 0, tree.feature), np.where(leaf, 0.0, tree.threshold), children, tree.value)


def _check(state: dict[str, Any]) -> None:
    scalars = {"constant": float, "single_precision": bool, "n_features_in_": int}
    if state.keys() != scalars.keys() | _ARRAYS.keys():
        raise ValueError(f"an ensemble of trees holds {', '.join([*scalars, *_ARRAYS])}")
    for name, kind in scalars.items():
        if type(state[name]) is not kind:
            raise ValueError(f"the trees' {name} is a {type(state[name]).__name__}, not a {kind.__name__}")
    count = len(state["value"]) if isinstance(state["value"], np.ndarray) and state["value"].ndim else 0
    for name, dtype in _ARRAYS.items():
        array = state[name]
        shape = {"roots": np.shape(array)[:1], "children": (count, 2)}.get(name, (count,))
        if not isinstance(array, np.ndarray) or (array.dtype, array.shape) != (dtype, shape):
            raise ValueError(f"the trees' {name} is no array {shape} of {dtype}")
    nodes = np.arange(count)[:, None]
    children, feature, roots = state["children"], state["feature"], state["roots"]
    leaf = (children == nodes).all(axis=1, keepdims=True)
    if not (((children > nodes) & (children < count)) | leaf).all():
        raise ValueError("a node of the trees leads out of range, or back")
    if not (((feature >= 0) & (feature < state["n_features_in_"])).all() and ((roots >= 0) & (roots < count)).all()):
        raise ValueError("a tree has an index out of range")
    if not (np.isfinite(state["constant"]) and np.isfinite(state["value"]).all()) or np.isnan(state["threshold"]).any():
        raise ValueError("a tree holds what is not a number")

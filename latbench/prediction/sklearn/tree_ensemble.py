"""scikit-learn's regression trees as plain arrays that numpy alone evaluates, so that they can come from a file.

scikit-learn's own trees hold node numbers that native code follows unchecked: a crafted file would read foreign memory
or end the process. Here every index is checked when the arrays are read, and numpy checks it again when it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor
from sklearn.utils.validation import validate_data

Arrays = Mapping[str, NDArray[Any]]

FORESTS = (RandomForestRegressor, ExtraTreesRegressor)
TREES = (DecisionTreeRegressor, ExtraTreeRegressor, *FORESTS, GradientBoostingRegressor)

_DTYPES: dict[str, np.dtype[Any]] = {
    "constant": np.dtype(np.float64),
    "columns": np.dtype(np.int64),
    "roots": np.dtype(np.int32),
    "feature": np.dtype(np.int32),
    "threshold": np.dtype(np.float64),
    "children": np.dtype(np.int32),
    "value": np.dtype(np.float64),
}


class TreeEnsemble(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """What a fitted tree, forest or boosted ensemble of scikit-learn predicts: a constant plus one leaf of each tree.

    Attributes:
        arrays_: ``constant`` ``(1,)`` is added to the leaves, ``columns`` ``(1,)`` is the width of an encoding, and
            ``roots`` ``(trees,)`` are the nodes to start from. Of each node, ``feature`` is the column that it
            compares, ``threshold`` the largest value that goes left, ``children`` ``(nodes, 2)`` the indices of the
            left and right nodes, higher than its own (a leaf points to itself), and ``value`` what a leaf adds.
    """

    @classmethod
    def of(cls, estimator: Any) -> Self:
        """Return the trees of a fitted estimator, one of `TREES` whose boosting starts from a constant."""
        trees, weight, constant = [estimator], 1.0, 0.0
        if isinstance(estimator, GradientBoostingRegressor):
            trees, weight = list(estimator.estimators_[:, 0]), estimator.learning_rate
            constant = float(estimator.init_.constant_[0, 0])
        elif isinstance(estimator, FORESTS):
            trees, weight = estimator.estimators_, 1 / len(estimator.estimators_)
        grown = [each.tree_ for each in trees]
        roots = np.cumsum([0, *(tree.node_count for tree in grown)])[:-1]
        left, right, feature, threshold = (
            np.concatenate([getattr(tree, name) for tree in grown])
            for name in ("children_left", "children_right", "feature", "threshold")
        )
        leaf, nodes = left < 0, np.arange(len(left))
        offset = np.repeat(roots, [tree.node_count for tree in grown])
        children = [np.where(leaf, nodes, child + offset) for child in (left, right)]
        arrays = {
            "constant": np.array([constant]),
            "columns": np.array([estimator.n_features_in_]),
            "roots": roots,
            # scikit-learn writes anything into leaves.
            "feature": np.where(leaf, 0, feature),
            "threshold": np.where(leaf, 0.0, threshold),
            "children": np.stack(children, axis=1),
            "value": weight * np.concatenate([tree.value[:, 0, 0] for tree in grown]),
        }
        return cls().from_arrays({name: array.astype(_DTYPES[name]) for name, array in arrays.items()})

    def fit(self, X: Any, y: Any) -> Self:
        """Refuse: a pipeline takes only steps that have a fit.

        Raises:
            TypeError: always.
        """
        raise TypeError("these trees are fitted already: fit the regressor that they come from")

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings ``(n, columns)``."""
        arrays = self.arrays_
        # scikit-learn's trees compare float32 with float64 thresholds.
        X = validate_data(self, X, dtype=np.float32, reset=False)
        rows, total = np.arange(len(X)), np.full(len(X), arrays["constant"][0])
        for root in arrays["roots"]:
            node = np.full(len(X), root)
            following = self._step(X, rows, node)
            while (following != node).any():
                node, following = following, self._step(X, rows, following)
            total += arrays["value"][node]
        return total

    def _step(self, X: NDArray[Any], rows: NDArray[Any], node: NDArray[np.int32]) -> NDArray[np.int32]:
        right = X[rows, self.arrays_["feature"][node]] > self.arrays_["threshold"][node]
        following: NDArray[np.int32] = self.arrays_["children"][node, right.astype(np.intp)]
        return following

    def to_arrays(self) -> Arrays:
        """Return the trees."""
        return self.arrays_

    def from_arrays(self, arrays: Arrays) -> Self:
        """Take over trees, perhaps from a file.

        Raises:
            ValueError: the arrays are missing or misshapen, an index is out of range, or a path does not end in a leaf.
        """
        _check(arrays)
        self.arrays_ = dict(arrays)
        self.n_features_in_ = int(arrays["columns"][0])
        return self


def _check(arrays: Arrays) -> None:
    if arrays.keys() != _DTYPES.keys():
        raise ValueError(f"an ensemble of trees has the arrays {', '.join(_DTYPES)}")
    count = arrays["value"].size
    shapes: dict[str, tuple[int, ...]] = {"constant": (1,), "columns": (1,)}
    shapes |= {"roots": (arrays["roots"].size,), "children": (count, 2)}
    for name, dtype in _DTYPES.items():
        array, shape = arrays[name], shapes.get(name, (count,))
        if (array.dtype, array.shape) != (dtype, shape):
            raise ValueError(f"the trees' {name} is not an array {shape} of {dtype}")
    nodes = np.arange(count)[:, None]
    children, feature, roots = arrays["children"], arrays["feature"], arrays["roots"]
    leaf = (children == nodes).all(axis=1, keepdims=True)
    if not (((children > nodes) & (children < count)) | leaf).all():
        raise ValueError("a node of the trees leads out of range, or back")
    if not (((feature >= 0) & (feature < arrays["columns"])).all() and ((roots >= 0) & (roots < count)).all()):
        raise ValueError("a tree has an index out of range")
    if not all(np.isfinite(arrays[name]).all() for name in ("constant", "value", "threshold")):
        raise ValueError("a tree holds a value that is not a number")

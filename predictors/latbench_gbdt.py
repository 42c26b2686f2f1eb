"""The predictor ``gbdt``: gradient-boosted trees with linear leaves, on an encoding and the counts of its groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from latbench.predictor import ColumnFacts
from latbench.regression import group_matrix, merge_rows, relative_scale

_OF_SPLITS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_OF_LEAVES = ("leaf_value", "leaf_const", "num_features")


class GbdtRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """LightGBM on squared relative errors.

    A latency is close to a sum, which trees with constant leaves approximate poorly: small trees whose leaves hold
    linear models (Shi et al., "Gradient Boosting with Piece-Wise Linear Regression Trees", IJCAI 2019) need far fewer
    architectures.

    Args:
        n_estimators: number of trees.
        learning_rate: what each tree's prediction is multiplied by.
        num_leaves: leaves of a tree.
        min_child_samples: architectures that a leaf holds at least.
        linear_lambda: L2 penalty of the linear models in the leaves.
        groups: the group of each column (`latbench.space.Column.group`), whose counts become features; None adds none.
        random_state: LightGBM's seed.

    Attributes:
        booster_: the fitted ``lightgbm.Booster``.
    """

    def __init__(
        self,
        *,
        n_estimators: int = 200,
        learning_rate: float = 0.05,
        num_leaves: int = 4,
        min_child_samples: int = 5,
        linear_lambda: float = 0.1,
        groups: Sequence[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.linear_lambda = linear_lambda
        self.groups = groups
        self.random_state = random_state

    def set_column_facts(self, facts: ColumnFacts) -> Self:
        """Take over the groups, whose counts become features."""
        self.groups = facts.groups
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to encodings ``(n, columns)`` and labels ``(n,)``.

        Raises:
            ValueError: there is not one group for each column.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        if self.groups is not None and len(self.groups) != X.shape[1]:
            raise ValueError(f"{len(self.groups)} groups for {X.shape[1]} columns: give one for each")
        X, y, weight = merge_rows(X, y, _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True))
        weight /= relative_scale(y) ** 2
        # LightGBM's penalties are absolute: with a mean weight of 1 they mean the same in every unit.
        data = lightgbm.Dataset(self._features(X), y, weight=weight / weight.mean())
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
        self.booster_ = lightgbm.train(parameters, data, self.n_estimators)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings ``(n, columns)``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(self.booster_.predict(self._features(X), num_threads=1))

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the trees in LightGBM's text form, as bytes."""
        check_is_fitted(self)
        text = self.booster_.model_to_string()
        return {"booster": np.frombuffer(text.encode(), dtype=np.uint8), "columns": np.array([self.n_features_in_])}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore what `to_arrays` returned.

        Raises:
            ValueError: the arrays are not such a state.
        """
        if arrays.keys() != {"booster", "columns"} or arrays["booster"].dtype != np.uint8 or arrays["columns"].shape != (1,):
            raise ValueError("a gbdt predictor is LightGBM's text as bytes, 'booster', and the number of 'columns'")
        text = arrays["booster"].tobytes().decode()
        columns = int(arrays["columns"][0])
        counts = 0 if self.groups is None else len(set(self.groups))
        try:
            _check_text(text, features=columns + counts)
            self.booster_ = lightgbm.Booster(model_str=text)
        except (KeyError, lightgbm.basic.LightGBMError) as error:
            raise ValueError(f"this is no LightGBM model: {error}") from error
        self.n_features_in_ = columns
        return self

    def _features(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return X if self.groups is None else np.hstack([X, X @ group_matrix(self.groups)])


def _check_text(text: str, *, features: int) -> None:
    """Check what LightGBM trusts: a malformed tree aborts the whole process, an index out of range reads foreign memory."""
    head, _, trees = text.partition("\n\n")
    fixed = {"num_class": "1", "num_tree_per_iteration": "1", "max_feature_idx": str(features - 1), "objective": "regression"}
    header = _fields(head)
    if any(header[key] != value for key, value in fixed.items()):
        raise ValueError(f"the trees are not a regression on {features} features")
    for size in map(int, header["tree_sizes"].split()):
        _check_tree(_fields(trees[:size]), features)
        trees = trees[size:]
    if not trees.startswith("end of trees"):
        raise ValueError("the sizes of the trees are wrong")


def _check_tree(tree: Mapping[str, str], features: int) -> None:
    leaves = int(tree["num_leaves"])
    inner = leaves - 1
    numbers = {key: [float(number) for number in text.split()] for key, text in tree.items()}
    lengths = dict.fromkeys(_OF_SPLITS, inner) | dict.fromkeys(_OF_LEAVES, leaves)
    lengths |= dict.fromkeys(("leaf_features", "leaf_coeff"), int(sum(numbers["num_features"])))
    children = [*enumerate(numbers["left_child"]), *enumerate(numbers["right_child"])]
    if not (
        all(len(numbers[key]) == length for key, length in lengths.items())
        and all(0 <= used < features for key in ("split_feature", "leaf_features") for used in numbers[key])
        and all(-leaves <= child < 0 or node < child < inner for node, child in children)
        and numbers["num_cat"] == [0]
        and not any(kind % 2 for kind in numbers["decision_type"])
    ):
        raise ValueError("a tree is malformed")


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)

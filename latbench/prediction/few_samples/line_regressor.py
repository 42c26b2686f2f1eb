"""What regressors that find a line on an expanded encoding share: its predictions, its module, its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from latbench.prediction.few_samples.expansion import Expansion
from latbench.prediction.few_samples.line_module import LineModule
from latbench.prediction.few_samples.regression import fitted_encodings


class LineRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A line on an expanded encoding; a subclass fits it.

    Attributes:
        coef_: what each column of an expanded encoding (`latbench.prediction.few_samples.expansion`) adds.
        intercept_: the prediction for an encoding of zeros.
        expansion_: gives the expanded encoding.
    """

    more_arrays: ClassVar[tuple[str, ...]] = ()
    """Further arrays that a subclass keeps: ``"shares"`` is the attribute ``shares_``."""

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings ``(n, columns)``, relaxed ones included."""
        X = fitted_encodings(self, X)
        return np.asarray(self.expansion_(X) @ self.coef_ + self.intercept_)

    def module(self) -> torch.nn.Module:
        """Return a float32 module from encodings ``(..., columns)`` to predictions ``(...)``."""
        check_is_fitted(self)
        return LineModule(self.expansion_, self.coef_, self.intercept_)

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the line."""
        check_is_fitted(self)
        line = {"coef": self.coef_, "intercept": np.array([self.intercept_])}
        return line | self.expansion_.to_arrays() | {name: getattr(self, f"{name}_") for name in self.more_arrays}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore what `to_arrays` returned.

        Raises:
            ValueError: the arrays are not such a state.
        """
        names = ("coef", "intercept", "products", "sums", *self.more_arrays)
        if arrays.keys() != set(names) or arrays["coef"].ndim != 1 or arrays["intercept"].shape != (1,):
            raise ValueError(
                f"{type(self).__name__} has the arrays {', '.join(map(repr, names))}: "
                "'coef' of the shape (expanded columns,), 'intercept' of the shape (1,)"
            )
        self.coef_ = np.asarray(arrays["coef"], dtype=np.float64)
        self.intercept_ = float(arrays["intercept"][0])
        self.n_features_in_ = len(self.coef_) - len(arrays["products"])
        self.expansion_ = Expansion.from_arrays(arrays, self.n_features_in_)
        for name in self.more_arrays:
            setattr(self, f"{name}_", arrays[name])
        return self

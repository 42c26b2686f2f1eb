"""The predictor ``mlp``: a shrunken line, plus a small ensemble of networks for the line's errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, silu

from latbench.prediction.few_samples.expansion import ColumnSet, Expansion, column_sets
from latbench.prediction.few_samples.line_module import LineModule
from latbench.prediction.few_samples.regression import (
    Matrix,
    fitted_encodings,
    group_matrix,
    left_out_errors,
    merge_rows,
    relative_scale,
)
from latbench.prediction.few_samples.robust_line import fit_robust_line
from latbench.prediction.few_samples.threads import one_thread
from latbench.predictor import Context

ROWS_PER_MEMBER = 10
"""With fewer rows for each member the networks have too little to learn from, and only the line is fitted."""

CHUNK = 1024
"""Rows that are predicted at once: what the networks make of more does not stay in a core's cache."""

Layers = list[Tensor]
"""Weight and bias of three layers; the first dimension of each is the member."""


class MlpRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A shrunken line plus SiLU networks that are fitted to the errors of the line.

    The line is `latbench.prediction.few_samples.robust_line`; where the space tells its graph, the line may know which
    operations are dead (`latbench.prediction.structure`).

    A latency is close to a sum, so the line alone predicts well from twenty architectures on. Each network is trained
    without one fold of the rows, on the errors that the line makes on rows it has not seen. The networks' common weight
    is the one that best explains those errors on the left-out folds (stacking, Breiman 1996): zero where they learnt
    nothing but noise. They are trained on random mixtures of encodings and of labels (mixup, Zhang et al., ICLR 2018,
    with more than two rows), so that their prediction for a relaxed encoding is an expected latency.

    Args:
        hidden: width of the two hidden layers.
        members: number of networks, and of folds; at least 2.
        steps: number of optimiser steps.
        learning_rate: the highest rate of the one-cycle schedule.
        weight_decay: AdamW's.
        mixed: rows in a mixture.
        random_state: seed of folds, initial weights and batches.

    Attributes:
        coef_: the line's, for each column of an expanded encoding (`latbench.prediction.few_samples.expansion`).
        intercept_: the line's.
        expansion_: gives the expanded encoding.
        layers_: the networks', see `Layers`; their outputs are summed.
        network_: the line and the networks as a module.
        left_out_: see `latbench.predictor.KnowsItsErrors`.
    """

    def __init__(
        self,
        *,
        hidden: int = 32,
        members: int = 4,
        steps: int = 400,
        learning_rate: float = 5e-3,
        weight_decay: float = 1.0,
        mixed: int = 16,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.members = members
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.mixed = mixed
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, context: Context | None = None) -> Self:
        """Fit to encodings ``(n, columns)`` and labels ``(n,)``.

        The groups and, where the profile has an operator table, the costs of the context shrink the line.

        Raises:
            ValueError: the context has other columns, or there are fewer than two members.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        sets = column_sets(context, X.shape[1])
        if self.members < 2:
            raise ValueError(f"members is {self.members}: give at least 2, each is tested on the fold it leaves out")
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        X, y, weight = merge_rows(X, y, weight)
        # An optimiser's steps are absolute: with a mean label of 1 they mean the same in every unit.
        unit = float(np.abs(y).mean()) or 1.0
        chosen, line = fit_robust_line(sets, X, y / unit, weight)
        self.coef_, self.intercept_ = unit * chosen.unmixed(line.coef), unit * line.intercept
        self.expansion_ = chosen.expansion
        with one_thread():
            (*layers, w3, b3), corrected = self._fit_networks(
                chosen.expansion(X), _inputs(chosen), line.left_out, relative_scale(y / unit), weight
            )
        self.left_out_ = left_out_errors(y, y - unit * (line.left_out - corrected))
        self._set_layers([layer.numpy() for layer in (*layers, unit * w3, unit * b3)])
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings ``(n, columns)``, relaxed ones included."""
        X = fitted_encodings(self, X)
        rows = torch.from_numpy(X.astype(np.float32))
        with torch.inference_mode(), one_thread():
            parts = [self.network_(rows[at : at + CHUNK]) for at in range(0, len(rows), CHUNK)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)

    def module(self) -> nn.Module:
        """Return a float32 module from encodings ``(..., columns)`` to predictions ``(...)``; it has no parameters."""
        check_is_fitted(self)
        return copy.deepcopy(self.network_)

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the line and the layers."""
        check_is_fitted(self)
        layers = {f"layer{index}": layer for index, layer in enumerate(self.layers_)}
        line = {"coef": self.coef_, "intercept": np.array([self.intercept_])}
        return {**line, **self.expansion_.to_arrays(), **layers}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore what `to_arrays` returned.

        Raises:
            ValueError: the arrays are not such a state.
        """
        names = [f"layer{index}" for index in range(6)]
        if (
            arrays.keys() != {"coef", "intercept", "products", "sums", *names}
            or arrays["coef"].ndim != 1
            or arrays["intercept"].shape != (1,)
        ):
            raise ValueError(f"an mlp predictor has the arrays coef, intercept, products, sums, {', '.join(names)}")
        members, hidden = self.members, self.hidden
        columns = len(arrays["coef"]) - len(arrays["products"])
        shapes = _shapes(members, len(arrays["coef"]), hidden)
        if [arrays[name].shape for name in names] != shapes:
            raise ValueError(f"the layers of this mlp predictor have the shapes {shapes}")
        self.coef_, self.intercept_ = np.asarray(arrays["coef"], dtype=np.float64), float(arrays["intercept"][0])
        self.expansion_, self.n_features_in_ = Expansion.from_arrays(arrays, columns), columns
        self._set_layers([np.asarray(arrays[name], dtype=np.float32) for name in names])
        return self

    def _set_layers(self, layers: list[NDArray[np.float32]]) -> None:
        self.layers_ = layers
        self.network_ = _Network(LineModule(self.expansion_, self.coef_, self.intercept_), layers)

    def _fit_networks(
        self, X: Matrix, inputs: Matrix, missed: Matrix, scale: Matrix, weight: Matrix
    ) -> tuple[Layers, Matrix]:
        """Fit the networks to the line's errors, and fold the scaling around them into their first and last layers.

        `inputs` ``(expanded columns, inputs)`` turns an expanded encoding `X` into the networks' inputs.

        Returns:
            The layers, and what the networks add for rows that they have not seen ``(n,)``.
        """
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31 - 1)))
        centre = X.mean(axis=0)
        inputs = inputs * 3 / (np.linalg.norm((X - centre) @ inputs) / math.sqrt(len(X)) or 1.0)
        unit = math.sqrt(np.mean((missed / scale) ** 2)) or 1.0
        layers = _initial_layers(self.members, inputs.shape[1], self.hidden, generator)
        share, corrected = 0.0, np.zeros(len(X))
        if len(X) >= ROWS_PER_MEMBER * self.members:
            rows = _Rows(*map(_float32, ((X - centre) @ inputs, missed / unit, scale, weight)))
            kept = torch.randperm(len(X), generator=generator) % self.members != torch.arange(self.members)[:, None]
            self._train(layers, rows, kept, generator)
            share, unseen = _stacking_weight(layers, rows, kept)
            corrected = share * unit * unseen.numpy().astype(np.float64)
        w1, b1, w2, b2, w3, b3 = layers
        w1 = _float32(inputs) @ w1
        b1 = b1 - _float32(centre[None]) @ w1
        last = share * unit / self.members
        return [w1, b1, w2, b2, last * w3, last * b3], corrected

    def _train(self, layers: Layers, rows: _Rows, kept: Tensor, generator: torch.Generator) -> None:
        """Train each member on mixtures of the rows that it keeps ``(members, n)``."""
        for layer in layers:
            layer.requires_grad_()
        optimizer = torch.optim.AdamW(layers, lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=self.steps)
        batch = min(len(rows.weight), 128)
        for _ in range(self.steps):
            chosen = torch.multinomial(kept * rows.weight, batch * self.mixed, replacement=True, generator=generator)
            x, missed, scale = rows.mix(chosen.view(self.members, batch, self.mixed), generator)
            loss = (((_run(layers, x) - missed) / scale) ** 2).mean(dim=1).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        for layer in layers:
            layer.requires_grad_(False)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Inputs ``(n, inputs)``, and for each row the line's error, the scale of that error and its weight."""

    x: Tensor
    missed: Tensor
    scale: Tensor
    weight: Tensor

    def mix(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return mixtures of the chosen rows ``(members, batch, mixed)``; every second one is a pure row."""
        members, batch, mixed = chosen.shape
        # Squared normal numbers over their sum are Dirichlet(1/2): most mixtures are lopsided, as sharp alphas are.
        shares = torch.randn(chosen.shape, generator=generator) ** 2
        shares /= shares.sum(dim=-1, keepdim=True)
        shares[:, ::2] = torch.eye(mixed)[0]
        x = embedding_bag(chosen.view(-1, mixed), self.x, per_sample_weights=shares.view(-1, mixed), mode="sum")
        missed, scale = ((values[chosen] * shares).sum(dim=-1) for values in (self.missed, self.scale))
        return x.view(members, batch, -1), missed, scale


class _Network(nn.Module):
    """The line plus the sum of the networks, whose first and last layers are one matrix each."""

    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    w3: Tensor
    b3: Tensor

    def __init__(self, line: LineModule, layers: Sequence[NDArray[np.float32]]) -> None:
        super().__init__()
        self.line = line
        w1, b1, w2, b2, w3, b3 = (torch.tensor(layer) for layer in layers)
        self.members, _, self.hidden = w1.shape
        self.register_buffer("w1", w1.permute(1, 0, 2).flatten(1).contiguous())
        self.register_buffer("b1", b1.flatten())
        self.register_buffer("w2", w2)
        self.register_buffer("b2", b2)
        self.register_buffer("w3", w3.flatten())
        self.register_buffer("b3", b3.sum())

    def forward(self, encoding: Tensor) -> Tensor:
        rows = self.line.expand(encoding.reshape(-1, encoding.shape[-1]))
        alone = not torch.is_grad_enabled()  # gradients need what goes into an activation
        hidden = silu(torch.addmm(self.b1, rows, self.w1), inplace=alone)
        hidden = hidden.view(-1, self.members, self.hidden).transpose(0, 1)
        hidden = silu(torch.baddbmm(self.b2, hidden, self.w2), inplace=alone)
        missed = hidden.transpose(0, 1).reshape(len(rows), -1) @ self.w3 + self.b3
        predicted: Tensor = self.line.of_expanded(rows) + missed
        return predicted.reshape(encoding.shape[:-1])


def _inputs(columns: ColumnSet) -> Matrix:
    """Return the matrix ``(expanded columns, inputs)`` from expanded encodings to the networks' inputs.

    They are the columns that the line was fitted to, and the counts of their groups; of products that only have a
    measured cost the networks learn by themselves.
    """
    mix, groups = columns.mix, columns.groups
    if mix is None:
        mix = np.eye(columns.expansion.expanded_width)[:, : columns.expansion.width]
    if groups is None:
        return mix
    return np.hstack([mix, mix @ group_matrix(groups[: mix.shape[1]])])


def _run(layers: Layers, x: Tensor) -> Tensor:
    """Return the members' outputs ``(members, rows)`` for inputs ``(rows, inputs)``, or ``(members, rows, inputs)``."""
    w1, b1, w2, b2, w3, b3 = layers
    hidden = silu(x @ w1 + b1)
    hidden = silu(hidden @ w2 + b2)
    return (hidden @ w3 + b3).squeeze(-1)


def _initial_layers(members: int, inputs: int, hidden: int, generator: torch.Generator) -> Layers:
    """Return random weights and zero biases; the last weights are zero, so that the networks add nothing at first."""
    w1, b1, w2, b2, w3, b3 = (torch.zeros(shape) for shape in _shapes(members, inputs, hidden))
    for weight in (w1, w2):
        weight.normal_(std=weight.shape[1] ** -0.5, generator=generator)
    return [w1, b1, w2, b2, w3, b3]


def _shapes(members: int, inputs: int, hidden: int) -> list[tuple[int, int, int]]:
    widths = ((inputs, hidden), (hidden, hidden), (hidden, 1))
    return [(members, rows, fan_out) for fan_in, fan_out in widths for rows in (fan_in, 1)]


def _stacking_weight(layers: Layers, rows: _Rows, kept: Tensor) -> tuple[float, Tensor]:
    """Return the share of the networks, 0 to 1, that best explains the line's errors on rows that they did not see.

    And what the networks say of these rows ``(n,)``.
    """
    left_out = (_run(layers, rows.x) * ~kept).sum(dim=0)
    weight = rows.weight / rows.scale**2
    best = (weight * left_out * rows.missed).sum() / (weight * left_out**2).sum()
    return float(best.nan_to_num(0.0).clamp(0.0, 1.0)), left_out


def _float32(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)

"""The predictor ``mlp``: a shrunken line plus a small ensemble of networks that learn what the line misses."""

from __future__ import annotations

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

from latbench.predictor import ColumnFacts
from latbench.regression import Matrix, group_matrix, merge_rows, relative_scale
from latbench.shrunken_line import fit_shrunken_line


class MlpRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A line (`latbench.shrunken_line`) plus ``members`` SiLU networks fitted to what the line predicts wrongly.

    Two thirds of a latency's structure are linear, so the line alone predicts well from twenty architectures on. The
    networks add what is not linear: each is trained without one fold of the rows, and their common weight is
    the one that best explains those left-out rows, which is zero where the networks learnt only noise. They are trained on random
    mixtures of encodings with the same mixture of labels, so that a relaxed encoding predicts an expected latency
    (mixup, Zhang et al., ICLR 2018, with up to `mixed` rows).

    Args:
        hidden: width of the two hidden layers.
        members: networks of the ensemble, one for each fold; at least 2.
        steps: optimiser steps.
        learning_rate: the highest rate of the one-cycle schedule.
        weight_decay: AdamW's.
        mixed: rows in a mixture.
        groups: the group of each column (`latbench.space.Column.group`); None knows none.
        costs: the measured cost of each column; None knows none.
        random_state: seed of folds, initial weights and batches.

    Attributes:
        coef_: the line's ``(columns,)``.
        intercept_: the line's.
        layers_: weights and biases of the networks, the first dimension of each is the member.
    """

    def __init__(
        self,
        *,
        hidden: int = 64,
        members: int = 4,
        steps: int = 400,
        learning_rate: float = 5e-3,
        weight_decay: float = 0.1,
        mixed: int = 8,
        groups: Sequence[str] | None = None,
        costs: Sequence[float] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.members = members
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.mixed = mixed
        self.groups = groups
        self.costs = costs
        self.random_state = random_state

    def set_column_facts(self, facts: ColumnFacts) -> Self:
        """Take over the groups and, where the profile has an operator table, the costs."""
        self.groups, self.costs = facts.groups, facts.costs
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to encodings ``(n, columns)`` and labels ``(n,)``.

        Raises:
            ValueError: there is not one group or cost for each column.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        for name, given in (("groups", self.groups), ("costs", self.costs)):
            if given is not None and len(given) != X.shape[1]:
                raise ValueError(f"{len(given)} {name} for {X.shape[1]} columns: give one for each")
        X, y, weight = merge_rows(X, y, _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True))
        line = fit_shrunken_line(X, y, weight, groups=self.groups, costs=self.costs)
        self.coef_, self.intercept_ = line.coef, line.intercept
        self.layers_ = self._fit_networks(X, line.left_out, relative_scale(y), weight)
        return self

    def _fit_networks(self, X: Matrix, missed: Matrix, scale: Matrix, weight: Matrix) -> tuple[NDArray[np.float32], ...]:
        """Fit the ensemble to what the line missed, and fold everything around it into its layers."""
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31 - 1)))
        inputs = np.eye(X.shape[1])
        if self.groups is not None:
            inputs = np.hstack([inputs, group_matrix(self.groups)])
        centre = X.mean(axis=0)
        inputs *= 3 / (np.linalg.norm((X - centre) @ inputs) / math.sqrt(len(X)) or 1.0)
        unit = math.sqrt(np.mean((missed / scale) ** 2)) or 1.0
        rows = _Rows(*map(_float32, ((X - centre) @ inputs, missed / unit, scale, weight)))
        layers = _initial_layers(self.members, inputs.shape[1], self.hidden, generator)
        share = 0.0
        if len(X) >= 10 * self.members:
            kept = torch.randperm(len(X), generator=generator) % self.members != torch.arange(self.members)[:, None]
            self._train(layers, rows, kept, generator)
            share = _stacking_weight(layers, rows, kept)
        w1, b1, w2, b2, w3, b3 = layers
        w1 = _float32(inputs) @ w1
        b1 = b1 - _float32(centre[None]) @ w1
        scale_out = share * unit / self.members
        return tuple(layer.numpy() for layer in (w1, b1, w2, b2, w3 * scale_out, b3 * scale_out))

    def _train(self, layers: Layers, rows: _Rows, kept: Tensor, generator: torch.Generator) -> None:
        """Train each member on mixtures of the rows that it keeps ``(members, n)``."""
        for layer in layers:
            layer.requires_grad_()
        optimizer = torch.optim.AdamW(layers, lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=self.steps)
        batch = min(len(rows.weight), 128)
        for _ in range(self.steps):
            chosen = torch.multinomial(kept * rows.weight, batch * self.mixed, replacement=True, generator=generator)
            shares = torch._sample_dirichlet(torch.full((self.members * batch, self.mixed), 0.5), generator=generator)
            shares[::2] = torch.eye(self.mixed)[0]
            x, missed, scale = rows.mixed(chosen.view(-1, self.mixed), shares, self.members)
            loss = (((_run(layers, x) - missed) / scale) ** 2).mean(dim=1).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        for layer in layers:
            layer.requires_grad_(False)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings ``(n, columns)``, relaxed ones included."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(self.module().double()(torch.from_numpy(X)).numpy())

    def module(self) -> nn.Module:
        """Return a float32 module from encodings ``(..., columns)`` to predictions ``(...)``; it has no parameters."""
        check_is_fitted(self)
        return _Network(self.coef_, self.intercept_, self.layers_)


Layers = list[Tensor]
"""Weight and bias of three layers; the first dimension of each is the member."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the networks are trained on: inputs ``(n, inputs)``, what the line missed, the scale of errors, weights."""

    x: Tensor
    missed: Tensor
    scale: Tensor
    weight: Tensor

    def mixed(self, chosen: Tensor, shares: Tensor, members: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return mixtures of the chosen rows ``(mixtures, mixed)``, split among the members."""
        x = embedding_bag(chosen, self.x, per_sample_weights=shares, mode="sum")
        missed, scale = ((values[chosen] * shares).sum(dim=1) for values in (self.missed, self.scale))
        return x.view(members, -1, x.shape[1]), missed.view(members, -1), scale.view(members, -1)


class _Network(nn.Module):
    """The line plus the summed networks, in one piece."""

    def __init__(self, coef: Matrix, intercept: float, layers: Sequence[NDArray[np.float32]]) -> None:
        super().__init__()
        self.register_buffer("coef", torch.tensor(coef, dtype=torch.float32))
        self.register_buffer("intercept", torch.tensor(intercept, dtype=torch.float32))
        for index, layer in enumerate(layers):
            self.register_buffer(f"layer{index}", torch.tensor(layer))

    def forward(self, encoding: Tensor) -> Tensor:
        rows = encoding.reshape(-1, encoding.shape[-1])
        layers = [self.get_buffer(f"layer{index}") for index in range(6)]
        missed = _run(layers, rows).sum(dim=0)
        return (rows @ self.coef + self.intercept + missed).reshape(encoding.shape[:-1])


def _run(layers: Layers, x: Tensor) -> Tensor:
    """Return each member's output ``(members, rows)`` for shared or own rows ``([members,] rows, inputs)``."""
    w1, b1, w2, b2, w3, b3 = layers
    hidden = silu(x @ w1 + b1)
    hidden = silu(hidden @ w2 + b2)
    return (hidden @ w3 + b3).squeeze(-1)


def _initial_layers(members: int, inputs: int, hidden: int, generator: torch.Generator) -> Layers:
    layers = []
    for fan_in, fan_out in ((inputs, hidden), (hidden, hidden), (hidden, 1)):
        layers.append(torch.randn(members, fan_in, fan_out, generator=generator) / math.sqrt(fan_in))
        layers.append(torch.zeros(members, 1, fan_out))
    # The ensemble starts as zero: the line alone.
    layers[-2].zero_()
    return layers


def _stacking_weight(layers: Layers, rows: _Rows, kept: Tensor) -> float:
    """Return how much of the networks explains best what the line missed on rows that they did not see."""
    left_out = (_run(layers, rows.x) * ~kept).sum(dim=0)
    weight = rows.weight / rows.scale**2
    best = (weight * left_out * rows.missed).sum() / (weight * left_out**2).sum()
    return float(best.nan_to_num(0.0).clamp(0.0, 1.0))


def _float32(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)

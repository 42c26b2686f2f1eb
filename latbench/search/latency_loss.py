"""alphas -> relaxed encoding -> differentiable predictor -> penalty: what a search adds to its loss."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, Self, cast, get_args

import torch
from torch import Tensor, nn

from latbench.errors import UsageError

if TYPE_CHECKING:
    from latbench.space import SearchSpace

Penalty = Literal["linear", "hinge"]


class SpacePredictor(Protocol):
    """A predictor with its space and its unit: `latbench.trained_predictor.TrainedPredictor`, or a user's own class."""

    @property
    def space(self) -> SearchSpace:
        """The space whose encodings it takes."""
        ...

    @property
    def unit(self) -> str:
        """The unit of what it predicts, ``"ms"``."""
        ...

    def module(self) -> nn.Module:
        """Return the differentiable form: encodings ``(..., columns)`` to ``(...)`` in `unit`.

        Raises:
            TypeError: the predictor has none; the message says what to use instead.
        """
        ...


class LatencyLoss(nn.Module):
    """A penalty on what a predictor expects of the alphas, without a unit of its own.

    ``"linear"`` is ``weight * expected / target``. Without a target the predictor's value at uniform alphas takes its
    place, so that a weight means the same on every device. ``"hinge"`` is ``weight * relu(expected / target - 1)``:
    it has a gradient above the target only. Whatever the predictor predicts is penalised; energy works like latency.

    The predictor is copied, frozen and kept in evaluation mode: `parameters` is empty, so no optimiser can reach it,
    while ``to``, ``double`` and ``cuda`` move it.

    Args:
        predictor: a fitted differentiable predictor.
        weight: factor of the penalty.
        target: what the architecture may take, in the predictor's unit; the hinge needs one.
        penalty: ``"linear"`` or ``"hinge"``.
        temperature: of the relaxation (`latbench.space.SearchSpace.relax`). A search may lower it as it goes, so that
            the expected value approaches that of the derived architecture.

    Raises:
        TypeError: the predictor is not differentiable.
        UsageError: an unknown penalty, a hinge without target, a target or temperature that is not positive.
    """

    def __init__(
        self,
        predictor: SpacePredictor,
        *,
        weight: float = 1.0,
        target: float | None = None,
        penalty: Penalty = "linear",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if penalty not in get_args(Penalty):
            raise UsageError(f"no penalty named {penalty!r}: choose one of {', '.join(get_args(Penalty))}")
        if penalty == "hinge" and target is None:
            raise UsageError(f"a hinge penalty needs a target: LatencyLoss(..., target=<{predictor.unit}>)")
        for name, value in (("target", target), ("temperature", temperature)):
            if value is not None and not value > 0:
                raise UsageError(f"{name} is {value}: give a positive number")
        self.space = predictor.space
        self.unit = predictor.unit
        self.weight = weight
        self.target = target
        self.penalty = penalty
        self.temperature = temperature
        self.predictor = _frozen(predictor.module()).eval()
        self.reference = target if target is not None else self._value_at_uniform_alphas()

    def expected(self, alphas: Sequence[Tensor]) -> Tensor:
        """Return what the predictor expects of the alphas, a scalar in `unit`.

        Raises:
            ShapeError: the alphas do not have the space's `alpha_shapes`.
        """
        return cast(Tensor, self.predictor(self.space.relax(alphas, temperature=self.temperature)))

    def forward(self, alphas: Sequence[Tensor]) -> Tensor:
        """Return the penalty, a scalar.

        Raises:
            ShapeError: the alphas do not have the space's `alpha_shapes`.
        """
        ratio = self.expected(alphas) / self.reference
        return self.weight * (torch.relu(ratio - 1) if self.penalty == "hinge" else ratio)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a predictor with dropout must not add noise to the search."""
        return super().train(False)

    def _value_at_uniform_alphas(self) -> float:
        with torch.no_grad():
            return float(self.expected([torch.zeros(shape) for shape in self.space.alpha_shapes]))


def _frozen(module: nn.Module) -> nn.Module:
    """Return a copy whose parameters are buffers."""
    module = copy.deepcopy(module)
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module

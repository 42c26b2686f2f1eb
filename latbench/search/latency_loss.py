"""alphas -> relaxed encoding -> differentiable predictor -> penalty: what a search adds to its loss."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_args

import torch
from torch import Tensor, nn

from latbench.errors import UsageError
from latbench.space import Relaxable, SpaceSpec

if TYPE_CHECKING:
    from latbench.space import SearchSpace

Penalty = Literal["linear", "hinge"]


class SpacePredictor(Protocol):
    """A predictor with its space and its unit, such as `latbench.prediction.trained.TrainedPredictor`."""

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
    while ``to``, ``double`` and ``cuda`` move it. Alphas may have another precision or device: the penalty is computed
    in the predictor's and comes back on the alphas' device, in float32 at least. On one device nothing is copied.

    Args:
        predictor: a fitted differentiable predictor, as `latbench.fit` and `latbench.load_predictor` return it.
        weight: factor of the penalty, at least 0.
        target: what the architecture may take, in the predictor's unit; the hinge needs one.
        penalty: ``"linear"`` or ``"hinge"``.
        temperature: of the relaxation (`latbench.space.Relaxation`). A search may lower it as it goes, so that
            the expected value approaches that of the derived architecture.

    Raises:
        TypeError: the predictor is not differentiable.
        UsageError: no predictor, one of a space without a relaxation, an unknown penalty, a hinge without target, a
            target or temperature that is no positive number, a weight that is none of at least 0.
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
        _check_predictor(predictor)
        if penalty not in get_args(Penalty):
            raise UsageError(f"no penalty named {penalty!r}: choose one of {', '.join(get_args(Penalty))}")
        if penalty == "hinge" and target is None:
            raise UsageError(f"a hinge penalty needs a target: LatencyLoss(..., target=<{predictor.unit}>)")
        for name, value in (("target", target), ("temperature", temperature)):
            if value is not None and not (_is_finite(value) and value > 0):
                raise UsageError(f"{name} is {value!r}: give a positive number")
        if not (_is_finite(weight) and weight >= 0):
            raise UsageError(f"weight is {weight!r}: give a number of at least 0")
        if not isinstance(predictor.space, Relaxable):
            raise UsageError(
                f"{SpaceSpec.of(predictor.space)} has no relaxation, so no gradient leads through it: "
                "give its class a relaxation(), or search it with a strategy that tries architectures"
            )
        self.space = predictor.space
        self.relaxation = predictor.space.relaxation()
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
            ShapeError: the alphas do not have the relaxation's `shapes`.
        """
        precise = [alpha.to(torch.promote_types(alpha.dtype, torch.float32)) for alpha in alphas]
        encoding = self.relaxation.expected(precise, temperature=self.temperature)
        placed = next((encoding.to(buffer) for buffer in self.predictor.buffers()), encoding)
        expected: Tensor = self.predictor(placed)
        return expected.to(encoding)

    def forward(self, alphas: Sequence[Tensor]) -> Tensor:
        """Return the penalty, a scalar.

        Raises:
            ShapeError: the alphas do not have the relaxation's `shapes`.
        """
        ratio = self.expected(alphas) / self.reference
        return self.weight * (torch.relu(ratio - 1) if self.penalty == "hinge" else ratio)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a predictor with dropout must not add noise to the search."""
        return super().train(False)

    def _value_at_uniform_alphas(self) -> float:
        with torch.no_grad():
            return float(self.expected([torch.zeros(shape) for shape in self.relaxation.shapes]))


def _check_predictor(predictor: Any) -> None:
    if isinstance(predictor, str | os.PathLike):
        path = os.fspath(predictor)
        raise UsageError(f"LatencyLoss takes a predictor, not a path: LatencyLoss(latbench.load_predictor({path!r}))")
    if not all(hasattr(predictor, name) for name in ("space", "unit", "module")):
        raise UsageError(
            f"{type(predictor).__name__!r} is no predictor with a space, a unit and a module(): "
            "fit one with latbench.fit, or load one with latbench.load_predictor"
        )


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _frozen(module: nn.Module) -> nn.Module:
    """Return a copy whose parameters are buffers."""
    module = copy.deepcopy(module)
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module

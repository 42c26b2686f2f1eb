"""alphas -> relaxed encoding -> differentiable predictor -> penalty: what a search adds to its loss."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.errors import ShapeError, UsageError
from latbench.search.objectives.alpha_kind import Kind, Logits, is_transformed
from latbench.search.objectives.alpha_order import AlphaOrder
from latbench.search.objectives.alpha_rows import Alphas, Edge, are_matrices
from latbench.search.objectives.penalties import NEED_A_TARGET, PENALTIES, Penalty
from latbench.space import Relaxable

if TYPE_CHECKING:
    from latbench.space import Encoder, Relaxation

_SAMPLES = 64
"""Random architectures whose predictions are looked at when a loss is made."""

TensorLike = Tensor | NDArray[Any] | Sequence[float]

WEIGHTS_TOLERANCE = 1e-4
"""How far the sum of sub-graphs' weights may be from 1: a softmax in half precision is that exact."""


class SpacePredictor(Protocol):
    """A predictor with its space and its unit, such as `latbench.prediction.trained.TrainedPredictor`."""

    @property
    def space(self) -> Encoder[Any]:
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
    """A penalty, without a unit, on what a predictor predicts for alphas or for the encodings that a loop runs.

    ``"linear"`` is ``weight * expected / target``. Without a target the predictor's value at uniform alphas takes its
    place, so that a weight means the same on every device. ``"hinge"`` is ``weight * relu(expected / target - 1)``:
    it has a gradient above the target only; ``"absolute"`` pulls to the target from both sides, and ``"log"`` weighs
    percentages (`latbench.search.objectives.penalties`). `scaled` multiplies the loop's own loss instead. Whatever the
    predictor predicts is penalised; energy works like latency.

    Called with alphas, it is ``of(relaxation.expected(alphas, temperature=temperature))``. A loop that runs hard gates,
    some sub-graphs or exits with probabilities bills with `of` the encodings that it runs: one encoding is what runs
    and what is billed.

    The predictor is copied, frozen and kept in evaluation mode: `parameters` and `state_dict` are empty. No optimiser
    reaches it, and a network that has the loss as an attribute saves and loads what it did before, while ``to``,
    ``double`` and ``cuda`` move it. The target can be set at any time. Alphas may have another precision or device: the
    penalty is computed in the predictor's and comes back on the alphas' device, in float32 at least. On one device
    nothing is copied.

    Args:
        predictor: a fitted differentiable predictor, as `latbench.fit` and `latbench.load_predictor` return it.
        weight: factor of the penalty, at least 0.
        target: what the architecture may take, in the predictor's unit; ``"hinge"`` and ``"absolute"`` need one.
        penalty: ``"linear"``, ``"hinge"``, ``"absolute"`` or ``"log"``.
        temperature: of the relaxation (`latbench.space.Relaxation`). A search may lower it as it goes, so that
            the expected value approaches that of the derived architecture.
        relaxation: what the alphas mean; None for the space's own, if it has one.
        operations: the loop's operations in the order of its alphas' last dimension, ``gt.PRIMITIVES``. Nothing else
            can tell that a repository puts ``none`` last: its alphas would be billed as other operations. What it
            lacks is never chosen. None says that the order is the space's, as `latbench spaces NAME` prints it.
        edges: the loop's edges, ``(source, node)`` or ``"0->2"``, in the order of its alphas' rows; None as above. For
            alphas that are a dict by label, ``{"normal_n2_p0": "normal/0->2", ...}`` says what labels mean.
        kind: what the alphas are, ``"logits"`` or the ``"probabilities"`` of a softmax or of hard samples, which billed
            as logits would be nearly uniform. None stands for logits, and asks where every row sums to 1.
        names: what the space calls the loop's operations where that differs, ``{"sepconv3x3": "sep_conv_3x3"}``.

    Raises:
        TypeError: the predictor is not differentiable.
        UsageError: `predictor` is not one, or predicts logarithms or standardised values; its module is TorchScript;
            the penalty or the kind is unknown; a hinge or an absolute penalty has no target; a target or temperature is
            not positive, or the weight is negative; the value at uniform alphas is not positive; without a target, also
            a space without relaxation. Operations or edges are unknown, given twice or missing (`AlphaOrder`).
    """

    def __init__(
        self,
        predictor: SpacePredictor,
        *,
        weight: float = 1.0,
        target: float | None = None,
        penalty: Penalty = "linear",
        temperature: float = 1.0,
        relaxation: Relaxation[Any] | None = None,
        operations: Sequence[str] | None = None,
        edges: Sequence[Edge] | Mapping[Edge, Edge] | None = None,
        names: Mapping[str, str] | None = None,
        kind: Kind | None = None,
    ) -> None:
        super().__init__()
        _check_predictor(predictor)
        if penalty not in PENALTIES:
            raise UsageError(f"no penalty named {penalty!r}: choose one of {', '.join(PENALTIES)}")
        if penalty in NEED_A_TARGET and target is None:
            article = "an" if penalty[0] in "aeiou" else "a"
            raise UsageError(f"{article} {penalty} penalty needs a target: LatencyLoss(..., target=<{predictor.unit}>)")
        if target is not None:
            _check_positive("target", target)
        _check_positive("temperature", temperature)
        if not (_is_finite(weight) and weight >= 0):
            raise UsageError(f"weight is {weight!r}: give a number that is at least 0")
        self.space = predictor.space
        self.unit = predictor.unit
        self.weight = weight
        self.penalty = penalty
        self.temperature = temperature
        self.relaxation = _relaxation_of(self.space) if relaxation is None else relaxation
        if self.relaxation is None and target is None:
            raise UsageError(
                f"space {_name(self.space)!r} has no relaxation, so alphas mean nothing in it: give a target, "
                f"target=<{self.unit}>, to bill encodings with of(encoding), or give relaxation="
            )
        self.order = None
        if (operations, edges, names) != (None, None, None):
            if self.relaxation is None:
                raise UsageError(
                    f"space {_name(self.space)!r} has no relaxation, so operations= and edges= order nothing"
                )
            self.order = AlphaOrder(self.space, self.relaxation.shapes, operations=operations, edges=edges, names=names)
        self._logits = Logits(kind, self.relaxation)
        self.predictor = _frozen(predictor.module()).eval()
        self.target = target
        self._warned = False
        self._check_positive_on_samples()

    @property
    def target(self) -> float | None:
        """What the architecture may take, in `unit`; the penalty is relative to it from the next call on.

        Raises:
            UsageError: it is set to what is not a positive number; to None, with a hinge or without a relaxation.
        """
        return self._target

    @target.setter
    def target(self, target: float | None) -> None:
        if target is not None:
            _check_positive("target", target)
        elif self.penalty in NEED_A_TARGET or self.relaxation is None:
            raise UsageError("this loss needs a target: set a positive number")
        uniform = self._value_at_uniform_alphas()
        self.reference = uniform if target is None else target
        self._target = target

    def expected(self, alphas: Alphas) -> Tensor:
        """Return the prediction at the expected encoding of alphas, a scalar in `unit`; see `forward`.

        Raises:
            ShapeError: the alphas do not have the relaxation's `shapes`.
            UsageError: see `forward`.
        """
        return self.value(self._relaxed(alphas))

    def value(self, encoding: TensorLike, weights: TensorLike | None = None) -> Tensor:
        """Return the prediction for encodings, a scalar in `unit`; see `of`.

        Raises:
            ShapeError: as in `of`; or the predictor's module does not give one value for each encoding.
        """
        columns = len(self.space.columns)
        encoding = torch.as_tensor(encoding)  # space.encode() gives arrays
        if encoding.ndim not in (1, 2) or encoding.shape[-1] != columns or not encoding.numel():
            raise ShapeError(
                f"encodings of this space have the shape ({columns},) or (k, {columns}), not {tuple(encoding.shape)}"
            )
        precise = encoding.to(torch.promote_types(encoding.dtype, torch.float32))
        numbers = (buffer for buffer in self.predictor.buffers() if buffer.is_floating_point())
        placed = next((precise.to(buffer) for buffer in numbers), precise)
        rows = placed.reshape(-1, columns)  # a batch, too, where there is one: batch normalisation takes no less
        values: Tensor = self.predictor(rows)
        if values.shape != rows.shape[:1]:
            raise ShapeError(
                f"the predictor's module gives the shape {tuple(values.shape)} for encodings {tuple(rows.shape)}: "
                f"it must give ({len(rows)},), one value for each; squeeze its last dimension"
            )
        values = values.reshape(encoding.shape[:-1]).to(precise)
        if weights is not None:
            return (_checked_weights(torch.as_tensor(weights), encoding).to(values) * values).sum()
        return values.mean() if encoding.ndim == 2 else values

    def of(self, encoding: TensorLike, weights: TensorLike | None = None) -> Tensor:
        """Return the penalty of what a loop runs, a scalar.

        Args:
            encoding: ``(columns,)`` hard gates or a relaxed encoding, or ``(k, columns)`` for k sub-graphs, whose mean
                is billed; also as an array. Gradients reach a tensor. Always in the order of the space's columns.
            weights: how often each of k sub-graphs runs ``(k,)``, each at least 0 with sum 1, such as the
                probabilities of early exits. Gradients reach them too.

        Raises:
            ShapeError: the encodings have another width, or there is not one weight for each.
            UsageError: a weight is negative, or their sum is not 1.
        """
        return self.weight * PENALTIES[self.penalty](self.value(encoding, weights) / self.reference)

    def scaled(self, task_loss: Tensor, alphas: Alphas) -> Tensor:
        """Return ``task_loss * (expected / target) ** weight``: MnasNet's product (Tan et al., CVPR 2019), as a loss.

        FBNet (Wu et al., CVPR 2019, equation 2) and others multiply as well: what is hard to learn may be slower. The
        penalty's form does not matter here.

        Args:
            task_loss: what the loop minimises, a scalar that is at least 0.
            alphas: see `forward`.

        Raises:
            ShapeError: the alphas do not have the relaxation's `shapes`.
            UsageError: see `forward`.
        """
        return task_loss * (self.expected(alphas) / self.reference).to(task_loss) ** self.weight

    def forward(self, alphas: Alphas) -> Tensor:
        """Return the penalty of alphas, a scalar.

        Warns, once, where gradients are recorded and no alpha wants one: such a penalty steers nothing.

        Args:
            alphas: a tensor for each of the relaxation's `shapes`. For a space of cells also, in each one's place, a
                tensor for each node, ``[net.alpha_normal, net.alpha_reduce]``, or a dict of rows by edge; or one dict
                of all rows, by ``"normal/0->2"`` or what `edges` says.

        Raises:
            ShapeError: the alphas do not have the relaxation's `shapes`.
            UsageError: the space has no relaxation, rows are missing or unknown, or the alphas seem to be or are not
                probabilities (`kind`).
        """
        encoding = self._relaxed(alphas)
        if torch.is_grad_enabled() and not (self._warned or encoding.requires_grad or is_transformed(encoding)):
            self._warned = True
            warnings.warn(
                "no gradient of this latency loss reaches any alpha, so it steers nothing: pass the parameters "
                "themselves, not .data or .detach(), or compute it under torch.no_grad() if it is for the log alone",
                stacklevel=4,  # the loop that calls the module
            )
        return self.of(encoding)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a predictor with dropout must not add noise to the search."""
        return super().train(False)

    def derive(self, alphas: Alphas) -> Any:
        """Return the architecture of the predictor's space that alphas favour, in whatever order and form they are.

        It is never a dead one where the space knows; see `latbench.space.Relaxation.derive`.

        Raises:
            ShapeError: the alphas do not have the relaxation's `shapes`.
            UsageError: see `forward`; or they hold NaN, or leave no live architecture.
        """
        relaxation, logits = self._in_order(alphas)
        return relaxation.derive([each.detach() for each in logits])

    def _relaxed(self, alphas: Alphas) -> Tensor:
        relaxation, logits = self._in_order(alphas)
        return relaxation.expected(logits, temperature=self.temperature)

    def _in_order(self, alphas: Alphas) -> tuple[Relaxation[Any], Sequence[Tensor]]:
        """Return the relaxation, and alphas as it takes them: logits, a matrix for each of its shapes."""
        if self.relaxation is None:
            raise UsageError(
                f"space {_name(self.space)!r} has no relaxation, so alphas mean nothing in it: bill encodings with "
                "of(encoding), or give LatencyLoss(..., relaxation=)"
            )
        order = self.order
        if order is None and not are_matrices(alphas):
            order = AlphaOrder(self.space, self.relaxation.shapes, operations=None, edges=None, names=None)
        matrices = [torch.as_tensor(each) for each in alphas] if order is None else order.matrices(alphas)
        precise = self._logits([alpha.to(torch.promote_types(alpha.dtype, torch.float32)) for alpha in matrices])
        return self.relaxation, precise if order is None else order(precise)

    def _value_at_uniform_alphas(self) -> float:
        """Return it, 1.0 where alphas mean nothing.

        Raises:
            UsageError: it is not positive. A predictor of logarithms, or of standardised values, would turn the sign of
                the gradient round, whatever the target.
        """
        if self.relaxation is None:
            return 1.0
        shapes = (self.relaxation if self.order is None else self.order).shapes
        zeros = [torch.zeros(shape) for shape in shapes]
        ordered = zeros if self.order is None else self.order(zeros)
        with torch.no_grad():
            value = float(self.value(self.relaxation.expected(ordered, temperature=self.temperature)))
        if not (math.isfinite(value) and value > 0):
            raise UsageError(
                f"the predictor expects {value:.4g} {self.unit} at uniform alphas, and no penalty can be relative to "
                f"that: let its module() give {self.unit}, not their logarithm or a standardised value"
            )
        return value

    def _check_positive_on_samples(self) -> None:
        """Refuse a predictor that predicts less than 0 for a good part of the space: its values are no quantity.

        Raises:
            UsageError: it does.
        """
        if not hasattr(self.space, "sample"):
            return
        encodings = torch.from_numpy(self.space.encode(self.space.sample(_SAMPLES, seed=0)))
        with torch.no_grad():
            negative = sum(float(self.value(encoding)) < 0 for encoding in encodings)
        if negative > _SAMPLES / 5:  # a line may be below 0 for the fastest few
            raise UsageError(
                f"the predictor predicts less than 0 {self.unit} for {negative} of {_SAMPLES} random architectures: "
                f"let its module() give {self.unit}, not their logarithm or a standardised value"
            )


def _relaxation_of(space: Encoder[Any]) -> Relaxation[Any] | None:
    return space.relaxation() if isinstance(space, Relaxable) else None


def _name(space: Encoder[Any]) -> str:
    return str(getattr(space, "name", type(space).__name__))


def _check_predictor(predictor: Any) -> None:
    if isinstance(predictor, str | os.PathLike):
        path = os.fspath(predictor)
        raise UsageError(f"LatencyLoss takes a predictor, not a path: LatencyLoss(latbench.load_predictor({path!r}))")
    if not all(hasattr(predictor, name) for name in ("space", "unit", "module")):
        raise UsageError(
            f"{type(predictor).__name__!r} is not a predictor with a space, a unit and a module(): "
            "fit one with latbench.fit, or load one with latbench.load_predictor"
        )


def _checked_weights(weights: Tensor, encoding: Tensor) -> Tensor:
    if encoding.ndim != 2 or weights.shape != encoding.shape[:1]:
        raise ShapeError(
            f"weights of the shape {tuple(weights.shape)} for encodings of the shape {tuple(encoding.shape)}: "
            "give one weight for each row"
        )
    if not weights.is_meta:
        lowest, total = float(weights.detach().min()), float(weights.detach().double().sum())
        if not (lowest >= 0 and abs(total - 1) <= WEIGHTS_TOLERANCE):
            raise UsageError(
                f"the weights of the encodings sum to {total:.6g} and the lowest is {lowest:.6g}: "
                "give probabilities, each at least 0, that sum to 1"
            )
    return weights


def _check_positive(name: str, value: float) -> None:
    if not (_is_finite(value) and value > 0):
        raise UsageError(f"{name} is {value!r}: give a positive number")


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _frozen(module: nn.Module) -> nn.Module:
    """Return a copy whose parameters are buffers, none of which is part of a state."""
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise UsageError(
            "the predictor's module is TorchScript, whose parameters cannot be frozen: give the module that it was "
            "made from"
        )
    module = copy.deepcopy(module)
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach(), persistent=False)
        for name, buffer in list(part.named_buffers(recurse=False)):
            part.register_buffer(name, buffer, persistent=False)
    return module

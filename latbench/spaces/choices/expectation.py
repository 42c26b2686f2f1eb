"""The encoding of values of which some are tensors: what a gradient-based search bills."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latbench.errors import ParseError, ShapeError, UsageError
from latbench.search.relaxations.decisions import conditional_encoding
from latbench.spaces.choices.decision import Decision, Ordinal
from latbench.spaces.choices.layout import Layout
from latbench.spaces.settings import Setting

TOLERANCE = 1e-2
"""How far weights may be from a sum of 1: a softmax in bfloat16 is that exact."""


def expected_encoding(layout: Layout, values: Mapping[str, Setting | Tensor]) -> Tensor:
    """Return the encoding ``(columns,)``; see `latbench.spaces.choices.ChoiceSpace.expected`."""
    layout.check_names(values)
    tensors = [value for value in values.values() if isinstance(value, Tensor) and value.is_floating_point()]
    like = tensors[0] if tensors else torch.empty(())
    # Where a decision is not made, any weights are multiplied by 0.
    weights = [
        _weights(decision, values[decision.name], like)
        if decision.name in values
        else like.new_zeros(len(decision.options))
        for decision in layout.decisions
    ]
    encoding = conditional_encoding(weights, layout.conditions)
    for decision, columns in layout.slices():
        if decision.name not in values and (decision.when is None or encoding[columns.stop - 1] != 1):
            raise ParseError(f"{decision.name} is missing: give a value, a tensor, or the weights of its options")
    return encoding


def _weights(decision: Decision, value: Setting | Tensor, like: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        return like.new_tensor(decision.weights(value))
    value = value.to(like)
    if value.shape == (len(decision.options),):
        return _checked(decision, value)
    if value.ndim == 0 and isinstance(decision, Ordinal):
        return decision.hat(value)
    number = "a number, or " if isinstance(decision, Ordinal) else ""
    raise ShapeError(
        f"{decision} has {len(decision.options)} options, not a tensor {tuple(value.shape)}: "
        f"give {number}the weights of its options"
    )


def _checked(decision: Decision, weights: Tensor) -> Tensor:
    if not weights.is_meta:
        lowest, total = float(weights.detach().min()), float(weights.detach().double().sum())
        if not (lowest >= -TOLERANCE and abs(total - 1) <= TOLERANCE):
            raise UsageError(
                f"the weights of {decision} sum to {total:.6g} and the lowest is {lowest:.6g}: "
                "give probabilities, each at least 0, that sum to 1, such as a softmax"
            )
    return weights

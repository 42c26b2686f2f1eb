"""What a share of the target costs: each takes ``expected / target`` to a penalty without a unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

Penalty = Literal["linear", "hinge", "absolute", "log"]


def _linear(ratio: Tensor) -> Tensor:
    """Return ``expected / target``: the sum of ProxylessNAS (Cai, Zhu, Han, ICLR 2019)."""
    return ratio


def _hinge(ratio: Tensor) -> Tensor:
    """Return ``relu(expected / target - 1)``: 0, and no gradient, at or below the target."""
    return torch.relu(ratio - 1)


def _absolute(ratio: Tensor) -> Tensor:
    """Return ``|expected / target - 1|``: the absolute reward of TuNAS (Bender et al., CVPR 2020).

    It pulls from both sides, so that a search ends at the target instead of somewhere below it.
    """
    return (ratio - 1).abs()


def _log(ratio: Tensor) -> Tensor:
    """Return ``log(expected / target)``: a percentage costs the same anywhere, as in FBNet (Wu et al., CVPR 2019)."""
    return ratio.log()


PENALTIES: Mapping[Penalty, Callable[[Tensor], Tensor]] = {
    "linear": _linear,
    "hinge": _hinge,
    "absolute": _absolute,
    "log": _log,
}

NEED_A_TARGET = ("hinge", "absolute")

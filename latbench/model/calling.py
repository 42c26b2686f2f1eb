"""A module as a function of tensors alone, whatever its own arguments are, and samples as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latbench.model.samples import Call


def called(module: nn.Module, call: Call) -> nn.Module:
    """Return a module that takes the tensors of a call; messages name it like the one that it calls."""
    made: nn.Module = type(type(module).__name__, (_Called,), {})(module, call)
    return made


class _Called(nn.Module):
    """Takes the tensors of a call one after the other, and calls a module with all of its arguments."""

    def __init__(self, module: nn.Module, call: Call) -> None:
        super().__init__()
        self.module, self._call = module, call
        self.training = module.training

    def forward(self, *tensors: Any) -> Any:
        """Return what the module does."""
        positional, keywords = self._call.filled(tensors)
        return self.module(*positional, **keywords)


def as_tensor(value: Any) -> Tensor:
    """Return a copy of a sample as a tensor: its strides stay, those that torch has none of excepted."""
    if isinstance(value, Tensor):
        return value.clone()
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view(np.int16).copy(order="K")).view(torch.bfloat16)
    strided = value if all(stride >= 0 for stride in value.strides) else np.ascontiguousarray(value)
    return torch.from_numpy(strided.copy(order="K"))


def unlike(tensor: Tensor) -> Tensor:
    """Return what `latbench.model.arrays.unlike` does, with the strides of the tensor."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor
    other = torch.empty_like(tensor).copy_(tensor.flatten().flip(0).reshape(tensor.shape))
    return tensor * 0.5 if torch.equal(other, tensor) else other

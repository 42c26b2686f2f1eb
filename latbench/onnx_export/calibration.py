"""A copy of a module in which every part shows, to compare a written file with.

Networks are often made so that a part of them does nothing at first: the last norm of each residual branch has weight
0, a layer scale is 1e-6, statistics are those of nothing seen. A file that forgets such a part computes the same as the
module, until somebody trains it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

SMALL = 1e-2
"""Constants below this hide what they scale."""


def hides(module: nn.Module) -> bool:
    """Whether a weight of a module is one small number throughout, such as 0: what it scales shows in no output.

    Biases hide nothing.
    """
    weights = (x for name, x in module.named_parameters() if not name.endswith("bias"))
    return any(_is_constant(x) and abs(float(x.detach().flatten()[0])) < SMALL for x in weights)


def _is_constant(x: Tensor) -> bool:
    return x.is_floating_point() and x.numel() > 0 and bool((x == x.flatten()[0]).all())


def calibrated(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a module with random values for the parameters and statistics that are constant.

    A constant c becomes values around it, from 0.5 c to 1.5 c; where it hides what it scales, values around 0.3. The
    shapes, the operators and the module itself stay as they are.
    """
    twin = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in _tensors(twin):
            if _is_constant(tensor):
                value = float(tensor.flatten()[0])
                centre = value if abs(value) >= SMALL else 0.3
                tensor.copy_(centre * (0.5 + torch.rand(tensor.shape, generator=generator)))
    return twin


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    for child in module.modules():
        if isinstance(child, _NormBase):
            yield from (buffer for buffer in child.buffers(recurse=False))

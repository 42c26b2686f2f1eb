"""A copy of a module in which every part shows, to compare a written file with.

Networks are often made so that a part of them does nothing at first: the last norm of each residual branch has weight
0, a layer scale is 1e-6, statistics are those of nothing seen. A file that forgets such a part computes the same as the
module, until somebody trains it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

SMALL = 1e-2
"""Constants below this hide what they scale."""


def calibrated(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a module with random values for the parameters and statistics that are constant.

    A constant c becomes values around it, from 0.5 c to 1.5 c; where it hides what it scales, values around 0.3. The
    shapes, the operators and the module itself stay as they are.
    """
    twin = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in _tensors(twin):
            if tensor.is_floating_point() and tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
                value = float(tensor.flatten()[0])
                centre = value if abs(value) >= SMALL else 0.3
                tensor.copy_(centre * (0.5 + torch.rand(tensor.shape, generator=generator)))
    return twin


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    for child in module.modules():
        if isinstance(child, _NormBase):
            yield from (buffer for buffer in child.buffers(recurse=False))


def difference_by_input(module: nn.Module, inputs: Mapping[str, NDArray[Any]], seed: int = 0) -> float:
    """Return how much the outputs of a module change with its floating-point inputs, relative to the largest output.

    A comparison of a file with a module whose outputs change by less than the comparison's tolerance shows nothing:
    a file that ignores its inputs would pass it. Runs a copy of the module twice, on the inputs and on a shuffled
    form of them.
    """
    generator = np.random.default_rng(seed)
    others = {
        name: generator.permuted(value, axis=None) if np.issubdtype(value.dtype, np.floating) else value
        for name, value in inputs.items()
    }
    with torch.no_grad():
        results = [_outputs(copy.deepcopy(module)(*map(torch.from_numpy, x.values()))) for x in (inputs, others)]
    changes = [
        float((one - other).abs().max() / one.abs().max().clamp_min(torch.finfo(one.dtype).tiny))
        for one, other in zip(*results, strict=True)
        if one.is_floating_point() and one.numel()
    ]
    return max(changes, default=0.0)


def _outputs(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result.detach()]
    items = result.values() if isinstance(result, Mapping) else result if isinstance(result, tuple | list) else ()
    return [tensor for item in items for tensor in _outputs(item)]

"""Modules as copies of a prototype: building a network spends most of its time in the constructors of torch.nn.

A DARTS network has some 450 modules. Copying what a constructor has left, weights drawn anew, makes building it nearly
twice as fast, and profiling builds a network every 200 ms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import nn

_Args = ParamSpec("_Args")


def prototyped(factory: Callable[_Args, nn.Module]) -> Callable[_Args, nn.Module]:
    """Make a factory of modules construct one module for each set of arguments, and return `fresh` copies of it.

    The arguments must be hashable, and the modules made of torch.nn's own.
    """

    @functools.cache
    def prototype(dtype: torch.dtype, device: torch.device, *args: _Args.args, **kwargs: _Args.kwargs) -> nn.Module:
        # Only the copies may draw from the caller's generator, or a seed would mean something else the first time.
        with torch.random.fork_rng(devices=[]):
            return factory(*args, **kwargs)

    @functools.wraps(factory)
    def copies(*args: _Args.args, **kwargs: _Args.kwargs) -> nn.Module:
        dtype, device = torch.get_default_dtype(), torch.get_default_device()
        return fresh(prototype(dtype, device, *args, **kwargs))  # type: ignore[arg-type]  # mypy: ParamSpec and Hashable

    return copies


def fresh(module: nn.Module) -> nn.Module:
    """Return a copy of a module that shares nothing with it, the weights of its convolutions drawn anew.

    They are drawn normal with variance ``1 / fan_in`` (LeCun et al., "Efficient BackProp", 1998, section 4.6). Before
    training, batch norm is the identity in eval mode; there torch's own initialisation lets the signal fade, by
    5,000 in 8 DARTS cells, and a compiled network that computes something else would still give the same logits.
    """
    copy = module.__new__(type(module))
    vars(copy).update(vars(module))
    nn.Module.__init__(copy)  # empties the containers of hooks, parameters, buffers and children
    for name, parameter in module._parameters.items():
        copy._parameters[name] = None if parameter is None else nn.Parameter(parameter.detach().clone())
    for name, buffer in module._buffers.items():
        copy._buffers[name] = None if buffer is None else buffer.clone()
    for name, child in module._modules.items():
        copy._modules[name] = None if child is None else fresh(child)
    if isinstance(copy, nn.Conv2d):
        nn.init.normal_(copy.weight, std=copy.weight[0].numel() ** -0.5)
    return copy

"""Sample inputs as a user hands them over, as arrays by name in the order in which the network takes them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ModelError, first_line

if TYPE_CHECKING:
    from torch import nn

Samples = Any
"""A tensor or an array, several of them in a tuple or a list in the order of ``forward``, or a mapping by name."""

_NUMBERS = "biufc"
"""NumPy's kinds of types that hold numbers."""


def named_samples(owner: str, names: Sequence[str] | None, given: Samples) -> dict[str, NDArray[Any]]:
    """Return samples as arrays by name, in the order in which they were given.

    Args:
        owner: of the samples, for messages.
        names: what the network calls its inputs, in order; None where it takes any number of them.
        given: by name, or in order: those are then named as the network does.

    Raises:
        ModelError: more samples than names, or a value that does not become an array of numbers.
    """
    if not isinstance(given, Mapping):
        values = list(given) if isinstance(given, tuple | list) else [given]
        if names is None:
            names = [f"input{index}" for index in range(len(values))]
        if len(values) > len(names):
            raise ModelError(f"{owner} gets {len(values)} samples: its forward takes {len(names)}")
        given = dict(zip(names, values, strict=False))
    return {str(name): _array(owner, str(name), value) for name, value in given.items()}


def parameter_names(module: nn.Module) -> list[str] | None:
    """Return what ``forward`` calls its inputs, in order; None where it takes any number of them."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # compiled code, such as TorchScript's, need not have a signature
        return None
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def in_order(owner: str, module: nn.Module, samples: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Sort samples as ``forward`` takes them; where it knows none of their names, they keep their order.

    Raises:
        ModelError: it knows some of the names only, or an input before the last one is missing.
    """
    parameters = parameter_names(module) or []
    known = [name for name in parameters if name in samples]
    if not known:
        return samples
    unknown = [name for name in samples if name not in known]
    skipped = [name for name in parameters[: parameters.index(known[-1])] if name not in samples]
    if unknown or skipped:
        problem = f"has no input {unknown[0]!r}" if unknown else f"also needs {skipped[0]!r}"
        raise ModelError(f"{owner} {problem}: its forward takes {', '.join(parameters)}, in this order")
    return {name: samples[name] for name in known}


def _converted(value: Any) -> NDArray[Any]:
    import torch

    return value.numpy(force=True) if isinstance(value, torch.Tensor) else np.asarray(value)


def _array(owner: str, name: str, value: Any) -> NDArray[Any]:
    try:
        array = value if isinstance(value, np.ndarray) else _converted(value)
    except (TypeError, ValueError, RuntimeError) as error:  # bfloat16, sparse and meta tensors, ragged lists
        raise ModelError(
            f"the sample {name!r} of {owner} does not become a NumPy array ({first_line(error)}): "
            "give a dense tensor or an array of a type that NumPy has, such as float32"
        ) from error
    if array.dtype.kind not in _NUMBERS:
        raise ModelError(f"the sample {name!r} of {owner} is a {type(value).__name__}: give a tensor or an array")
    return array

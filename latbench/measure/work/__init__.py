"""What a model computes: parameters, multiply-accumulates, and the least that any runtime has to do for its outputs.

Counted from the ONNX file where there is one, from the module otherwise. What cannot be counted is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from latbench.model import Model

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Work:
    """What one inference of a model takes. None where it cannot be counted.

    Args:
        parameters: elements of its weights.
        weights_mib: their MiB as the model holds them, constants and buffers included.
        macs: multiply-accumulates of its convolutions and matrix products, as papers count them.
        least_flops: floating-point operations in single or double precision that no runtime gets around: without taps
            that fall on padding, with the fewest multiplications known for a 3x3 convolution.
    """

    parameters: int | None = None
    weights_mib: float | None = None
    macs: int | None = None
    least_flops: float | None = None
    least_bytes: int | None = None


_COUNTED: WeakKeyDictionary[Model, Work] = WeakKeyDictionary()


def work_of(model: Model) -> Work:
    """Count what a model computes, once for each model: milliseconds for a network of some 50 layers.

    A module that cannot be traced, or a file that ONNX cannot follow, leaves `Work.macs` and `Work.least_flops` None.
    """
    if model not in _COUNTED:
        _COUNTED[model] = _of_module(model) if model.has_module else _of_file(model)
    return _COUNTED[model]


def _of_module(model: Model) -> Work:
    from latbench.measure.work.module import products

    module = model.module
    parameters = list(module.parameters())
    held = _distinct_bytes(chain(parameters, module.buffers()))
    try:
        counted = products(module, model.inputs)
    except Exception:  # noqa: BLE001 - a forward pass may raise anything when it meets a stand-in for a tensor
        counted = (None, None, None)
    return Work(sum(parameter.numel() for parameter in parameters), held / 2**20, *counted)


def _distinct_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes behind some tensors, of which several may share them."""
    storages: dict[int, Any] = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage
    return sum(storage.nbytes() for storage in storages.values())


def _of_file(model: Model) -> Work:
    from latbench.measure.work.onnx_graph import count

    try:
        return Work(*count(model.onnx, model.inputs))
    except Exception:  # noqa: BLE001 - ONNX Runtime loads files that neither protobuf nor shape inference follows
        return Work()

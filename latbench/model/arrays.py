"""Samples as arrays: as they were given, as a runtime of ONNX files takes them, and as texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ModelError, first_line

_NUMBERS = "biufc"
"""NumPy's kinds of types that hold numbers."""
_BFLOAT16 = "bfloat16"
_IMAGES = 4


def as_given(owner: str, name: str, value: Any) -> Any:
    """Return a tensor of its own for a tensor, and an array for an array.

    Raises:
        ModelError: the value holds no numbers.
    """
    if not isinstance(value, np.ndarray | np.generic):
        if value.is_meta:
            raise ModelError(
                f"the sample {name!r} of {owner} lies on the meta device, without values: make it on the CPU"
            )
        return value.detach().cpu().clone()
    array = np.asarray(value)
    if array.dtype.kind not in _NUMBERS and array.dtype.name != _BFLOAT16:
        raise ModelError(f"the sample {name!r} of {owner} is an array of {array.dtype}: give one of numbers")
    return array.copy(order="K")


def as_inputs(owner: str, given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return samples as arrays in C order.

    Raises:
        ModelError: a tensor does not become an array.
    """
    return {name: _array(owner, name, value) for name, value in given.items()}


def unlike(value: NDArray[Any]) -> NDArray[Any]:
    """Return an array of the same kind with other numbers in it, wherever it holds any that decide no shape.

    Integers and booleans stay: they may be indices, lengths, or which branch runs. So does what is all zeros.
    """
    if value.dtype.kind in "iub":
        return value
    other = value.reshape(-1)[::-1].reshape(value.shape).copy()
    # Half of a number of the sample's own range, where turning it round changes nothing.
    return np.asarray(value * value.dtype.type(0.5)) if np.array_equal(other, value, equal_nan=True) else other


def described(given: Any, array: NDArray[Any]) -> str:
    """Return a sample's shape and type, its layout if it is not in C order, and the value of what decides the work."""
    text = f"{'x'.join(map(str, array.shape)) or 'scalar'}:{array.dtype}"
    if array.dtype.kind in "iub" and array.size and (array == array.flat[0]).all():
        text += f"={array.flat[0]}"
    if isinstance(given, np.ndarray):
        contiguous, last = given.flags.c_contiguous, _moved(given).flags.c_contiguous
    else:
        contiguous, last = given.is_contiguous(), _moved(given).is_contiguous()
    if not contiguous:
        text += ":channels_last" if given.ndim == _IMAGES and last else ":strided"
    return text


def _moved(images: Any) -> Any:
    if images.ndim != _IMAGES:
        return images
    return images.transpose(0, 2, 3, 1) if isinstance(images, np.ndarray) else images.permute(0, 2, 3, 1)


def _array(owner: str, name: str, value: Any) -> NDArray[Any]:
    try:
        array = value if isinstance(value, np.ndarray) else _converted(value)
    except (TypeError, ValueError, RuntimeError) as error:  # sparse and meta tensors
        raise ModelError(
            f"the sample {name!r} of {owner} does not become a NumPy array ({first_line(error)}): "
            "give a dense tensor or an array of a type that NumPy has, such as float32"
        ) from error
    return np.ascontiguousarray(array).reshape(array.shape)  # without reshape, a scalar would become a row


def _converted(value: Any) -> NDArray[Any]:
    import torch

    if value.dtype != torch.bfloat16:
        array: NDArray[Any] = value.numpy(force=True)
        return array
    import ml_dtypes

    return np.asarray(value.contiguous().view(torch.int16).numpy(force=True).view(ml_dtypes.bfloat16))

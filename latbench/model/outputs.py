"""What a network returns, as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from latbench.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def tensors_of(result: Any) -> Iterator[Tensor]:
    """Yield the tensors that a module returns, also those inside tuples, lists, dicts and dataclasses, in order.

    None, numbers and texts beside them are left out: no runtime gives them.

    Raises:
        ModelError: it returns anything else, or no tensor at all.
    """
    found = list(_tensors(result))
    if not found:
        raise ModelError(
            f"the module returns a {type(result).__name__} without a tensor: wrap it so that it returns one"
        )
    yield from found


def as_array(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor's values as an array: dense, bfloat16 as float32, what is quantised as what it stands for."""
    import torch

    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: NDArray[Any] = tensor.numpy(force=True)
    return array


def _tensors(result: Any) -> Iterator[Tensor]:
    from torch import Tensor
    from torch.utils import _pytree

    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list | Mapping):
        for item in result.values() if isinstance(result, Mapping) else result:
            yield from _tensors(item)
    elif isinstance(result, bool | int | float | complex | str | None):
        return
    elif dataclasses.is_dataclass(result):
        for field in dataclasses.fields(result):
            yield from _tensors(getattr(result, field.name))
    elif not _pytree.tree_is_leaf(result):  # a type that its library has told torch how to take apart
        yield from _tensors(_pytree.tree_leaves(result))
    else:
        raise ModelError(f"the module returns a {type(result).__name__}: wrap it so that it returns tensors")

"""What a network returns, as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from latbench.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def tensors_of(result: Any) -> Iterator[Tensor]:
    """Yield the tensors that a module returns, in order: see `latbench.tracing.returned`.

    Raises:
        ModelError: it returns no tensor at all.
    """
    from latbench.tracing.returned import returned_tensors

    found = returned_tensors(result)
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

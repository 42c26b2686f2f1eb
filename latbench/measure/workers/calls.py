"""The calls of a network that cannot be traced, because its path depends on values: they are recorded while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def calls(module: nn.Module, inputs: Mapping[str, NDArray[Any]]) -> list[str]:
    """Run a module once, and return what it calls with its shapes and types: ``"addmm 5,1x3,3x5->1x5 float32"``.

    An error of the module is passed on.
    """
    seen = _Calls()
    with torch.no_grad(), seen:
        module(*(torch.from_numpy(value) for value in inputs.values()))
    return seen.texts


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every call below autograd."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.texts: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        given, plain = list(_tensors((args, kwargs or {}))), list(_plain((args, kwargs or {})))
        made = list(_tensors((result,)))
        shapes = f"{','.join(map(_shape, given))}->{','.join(map(_shape, made))}"
        kinds = dict.fromkeys(str(tensor.dtype).removeprefix("torch.") for tensor in (*given, *made))
        self.texts.append(" ".join([name, shapes, *kinds, *plain]))
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values.values() if isinstance(values, Mapping) else values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list | Mapping):
            yield from _tensors(value)


def _plain(values: Any) -> Iterator[str]:
    for value in values.values() if isinstance(values, Mapping) else values:
        if isinstance(value, tuple | list | Mapping):
            yield from _plain(value)
        elif isinstance(value, int | float | str):
            yield str(value)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))

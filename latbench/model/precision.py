"""What a module computes in, read from its weights or from what it calls; never assumed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_NAMES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.qint8: "int8",
    torch.quint8: "int8",
    torch.complex64: "fp32",
    torch.complex128: "fp64",
}
_HEAVY = ("conv", "linear", "mm", "matmul", "bmm", "einsum", "lstm", "gru", "rnn", "attention", "fft")
"""Parts of the names of operators whose types are what a network computes in; beside them, all others are small."""


def precision_of_weights(module: nn.Module, samples: Iterable[Any] = ()) -> str:
    """Return the types of a module's weights, or else of its samples: ``"fp32"``, ``"bf16+fp32"``."""
    weights = {x.dtype for x in chain(module.parameters(), module.buffers())}
    quantised = any(type(child).__module__.startswith("torch.ao.nn.") for child in module.modules())
    found = weights | ({torch.qint8} if quantised else set())
    return (
        _label(found) or _label({getattr(torch, str(x.dtype).removeprefix("torch."), None) for x in samples}) or "fp32"
    )


class Observed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what a network calls while it runs, and the types that it multiplies in.

    Attributes:
        operators: how many operators were called.
        products: how many of them multiply.
        elements: how many numbers these returned.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators = self.products = self.elements = 0
        self._seen: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators += 1
        returned = result if isinstance(result, list | tuple) else [result]
        self.elements += sum(x.numel() for x in returned if isinstance(x, torch.Tensor))
        namespace, _, name = func.name().partition("::")
        if any(part in name for part in _HEAVY):
            self.products += 1
            first = next((x for x in (*args, result) if isinstance(x, torch.Tensor)), None)
            self._seen.add(torch.qint8 if namespace == "quantized" else None if first is None else first.dtype)
        return result

    @property
    def label(self) -> str:
        """What was seen; empty where nothing was multiplied."""
        return _label(self._seen)


def _label(dtypes: Iterable[Any]) -> str:
    return "+".join(sorted({_NAMES[dtype] for dtype in dtypes if dtype in _NAMES}))

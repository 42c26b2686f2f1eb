"""What a recorder answers at once: questions about a tensor, and calls that give the tensor itself or a constant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latbench.tracing import calls
from latbench.tracing.nodes import TraceError

if TYPE_CHECKING:
    from latbench.tracing.recorder import Recorder

Answer = Callable[..., Any]
ANSWERS: dict[Any, Answer] = {}
"""The answer to each call, given the recorder and the call's arguments."""


def without_values(argument: Any) -> Any:
    """Return an argument with a constant for a stand-in, for calls that look at nothing but its shape and dtype."""
    if isinstance(argument, Tensor) and argument.is_meta:
        return torch.empty_strided(argument.shape, argument.stride(), dtype=argument.dtype)
    return argument


def _answers(*functions: Any) -> Callable[[Answer], Answer]:
    def register(answer: Answer) -> Answer:
        ANSWERS.update(dict.fromkeys(functions, answer))
        return answer

    return register


def _asking(function: Any) -> Answer:
    return lambda _, *args, **kwargs: function(*args, **kwargs)


def _saying(value: Any) -> Answer:
    return lambda *_, **__: value


def _getters() -> Iterator[Any]:
    """Yield the getters of a tensor's properties that are no tensors."""
    tensors = {"T", "mT", "H", "mH", "data", "real", "imag", "grad"}
    for name in dir(torch._C.TensorBase):
        attribute = getattr(torch._C.TensorBase, name)
        if type(attribute).__name__ == "getset_descriptor" and name not in tensors:
            yield attribute.__get__


_METHODS = (
    *("size", "dim", "ndimension", "stride", "is_contiguous", "numel", "nelement", "element_size", "storage_offset"),
    *("is_floating_point", "is_complex", "is_signed", "is_inference", "is_conj", "is_neg", "is_same_size", "__len__"),
    *("result_type", "get_device"),
)
_QUESTIONS = [getattr(home, name) for name in _METHODS for home in (Tensor, torch) if hasattr(home, name)]
ANSWERS.update({question: _asking(question) for question in (*_getters(), *_QUESTIONS)})

PURE = frozenset({Tensor.size, Tensor.dim, Tensor.shape.__get__, Tensor.dtype.__get__, Tensor.ndim.__get__})  # type: ignore[attr-defined]
"""The commonest questions: what they are asked of is all the same."""

ANSWERS |= {
    # What a forward pass creates beside its input has values: it cannot be on the meta device.
    Tensor.device.__get__: _saying(torch.device("cpu")),
    Tensor.is_meta.__get__: _saying(False),  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: _saying(True),  # type: ignore[attr-defined]
    Tensor.get_device: _saying(-1),
    Tensor.grad.__get__: _saying(None),  # type: ignore[union-attr]
    Tensor.__repr__: lambda _, x, **__: f"tensor(..., size={tuple(x.shape)}, dtype={x.dtype})",
    Tensor.__format__: lambda _, x, *__: f"tensor(..., size={tuple(x.shape)}, dtype={x.dtype})",
}


@_answers(Tensor.contiguous)
def _contiguous(recorder: Recorder, x: Tensor, memory_format: Any = torch.contiguous_format) -> Tensor:
    return recorder.converted(x, x.dtype, memory_format=memory_format)


def _casting(dtype: torch.dtype) -> Answer:
    return lambda recorder, x, memory_format=None: recorder.converted(x, dtype, memory_format=memory_format)


ANSWERS |= {function: _casting(dtype) for function, dtype in calls.CASTS.items()}


@_answers(Tensor.to, Tensor.type_as, Tensor.cpu, torch.as_tensor, torch.asarray)
def _to(recorder: Recorder, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Convert: ``x.to(other)``, ``x.to(device)``, ``x.to(dtype)``, ``x.to(device, dtype, non_blocking, copy)``."""
    flags = [argument for argument in args if isinstance(argument, bool)]
    wanted = [
        *(a for a in args if not isinstance(a, bool | None)),
        *(kwargs.get(k) for k in ("other", "device", "dtype")),
    ]
    dtype = x.dtype
    for item in wanted:
        if isinstance(item, Tensor):
            dtype = item.dtype
        elif isinstance(item, torch.dtype):
            dtype = item
        elif item is not None and torch.device(item).type != "cpu":
            raise TraceError(f"it moves a tensor to {item}")
    copy = kwargs.get("copy", len(flags) > 1 and flags[1])
    memory_format = kwargs.get("memory_format")
    if not recorder.stands(x):
        return recorder.run(Tensor.to, (x, dtype), {"copy": copy, "memory_format": memory_format})
    return recorder.converted(x, dtype, copy=copy, memory_format=memory_format)


@_answers(Tensor.type)
def _type(recorder: Recorder, x: Tensor, dtype: Any = None, **_: Any) -> Any:
    if dtype is None:
        return torch.empty(0, dtype=x.dtype).type()
    if isinstance(dtype, str):
        dtype = torch.empty(0).type(dtype).dtype
    return recorder.converted(x, dtype if isinstance(dtype, torch.dtype) else dtype.dtype)


@_answers(Tensor.cuda)
def _cuda(*_: Any, **__: Any) -> Any:
    raise TraceError("it moves a tensor to cuda")


@_answers(torch.detach, Tensor.detach, Tensor.data.__get__)  # type: ignore[attr-defined]
def _alias(recorder: Recorder, x: Tensor) -> Tensor:
    return recorder.alias(x)


@_answers(*calls.HARMLESS, Tensor.real.__get__)  # type: ignore[attr-defined]
def _itself(_: Recorder, x: Tensor, *__: Any) -> Tensor:
    return x


@_answers(*calls.DROPOUTS)
def _dropout(recorder: Recorder, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return recorder.drop(x, p) if training and p > 0 else x


def _making(function: Any) -> Answer:
    def make(recorder: Recorder, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if any(map(recorder.stands, (*args, *kwargs.values()))):
            raise TraceError("it fills a tensor with a computed value")
        return recorder.run(function, (without_values(x), *args), kwargs)

    return make


ANSWERS |= {function: _making(function) for function in calls.FACTORIES}


@_answers(torch.repeat_interleave, Tensor.repeat_interleave)
def _repeat_each(recorder: Recorder, x: Tensor, repeats: Any, dim: int | None = None, **_: Any) -> Any:
    if isinstance(repeats, int):
        return recorder.work(torch.repeat_interleave, (x, repeats, dim), {})
    if recorder.stands(repeats):
        raise TraceError("its path depends on values: it repeats elements as often as a tensor says")
    if dim is None:
        x, dim = recorder.call(Tensor.reshape, (x, -1), {}), 0
    places = torch.repeat_interleave(torch.arange(x.shape[dim]), repeats)
    return recorder.work(torch.index_select, (x, dim, places), {})


@_answers(torch.broadcast_tensors)
def _broadcast(recorder: Recorder, *tensors: Tensor) -> tuple[Any, ...]:
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))  # type: ignore[no-untyped-call]
    return tuple(recorder.call(Tensor.expand, (tensor, shape), {}) for tensor in tensors)

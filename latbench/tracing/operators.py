"""The operators of a module with their shapes, FLOPs and bytes: features of a network, keys of an operator table."""

from __future__ import annotations

import hashlib
import inspect
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.tracing import Node, Spec, Trace, trace

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operator:
    """One call of a torch function while a module runs.

    Args:
        name: the module that calls and what it calls: ``"cells.0.edges.1/conv2d"``.
        type: the function: ``"conv2d"``, ``"add"``, ``"batch_norm"``.
        input_shapes: the shapes of the tensors that flow in, weights excluded.
        output_shapes: the shapes of the tensors that flow out.
        attributes: the other arguments by name, and the kernel's size where there is a kernel.
        flops: floating-point operations, two for each multiply-accumulate. Only convolutions, linear layers and
            matrix products have any: everything else is bound by its bytes.
        params: elements of the parameters it reads.
        bytes: bytes of what it reads, weights included, and writes; 0 for a view.
    """

    name: str
    type: str
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    attributes: tuple[tuple[str, Any], ...]
    flops: int
    params: int
    bytes: int

    @property
    def key(self) -> str:
        """Equal for operators that do the same work: ``"conv2d 1x16x32x32->1x16x32x32 kernel=3x3 groups=16"``."""
        shapes = f"{','.join(map(_text, self.input_shapes))}->{','.join(map(_text, self.output_shapes))}"
        return " ".join([self.type, shapes, *(f"{name}={_text(value)}" for name, value in self.attributes)])


def operators(module: nn.Module, inputs: Mapping[str, NDArray[Any]]) -> list[Operator]:
    """Return the operators of a module, in the order in which it calls them, for inputs of these shapes.

    Nothing is computed. A module that `latbench.tracing.trace` cannot follow raises what it raises there.
    """
    return traced_operators(module, trace(module, inputs))


def traced_operators(module: nn.Module, traced: Trace) -> list[Operator]:
    """Return the operators of a module that has been traced, in the order in which it calls them."""
    paths = {child: path for path, child in module.named_modules()}
    calls: Counter[str] = Counter()
    found = []
    for node in traced.nodes:
        if node.args and isinstance(node.args[0], Node) and not isinstance(node.args[0].spec, Spec):
            continue  # takes one of several results
        name = f"{paths.get(node.owner, '') if node.owner else ''}/{_type(node)}"
        calls[name] += 1
        found.append(_operator(node, name if calls[name] == 1 else f"{name}_{calls[name]}"))
    return found


def wiring(traced: Trace) -> str:
    """Return a digest of which operator of a traced module feeds which, and in which types.

    It does not change with the names of modules, nor with the order of calls that do not depend on each other.
    """
    digests = {node: _digest(f"input {n} {node.spec}") for n, node in enumerate(traced.inputs)}

    def digest(tensor: Node | Tensor) -> str:
        return digests[tensor] if isinstance(tensor, Node) else f"{_text(tensor.shape)}:{tensor.dtype}"

    for node in traced.nodes:
        attributes = " ".join(f"{name}={_text(value)}" for name, value in _attributes(node).items())
        fed = [digest(tensor) for tensor in _tensors((node.args, node.kwargs))]
        ordered = sorted(fed) if _type(node) in ("add", "mul") else fed
        digests[node] = _digest(f"{_type(node)} {attributes} {' '.join(ordered)} {node.spec}")
    return _digest(" ".join(map(digest, traced.outputs)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _operator(node: Node, name: str) -> Operator:
    tensors = list(_tensors((node.args, node.kwargs)))
    outputs = [node.spec] if isinstance(node.spec, Spec) else [spec for spec in node.spec if isinstance(spec, Spec)]
    count_macs = _MACS.get(node.function)
    moved = 0 if node.function in _VIEWS else sum(_bytes(tensor) for tensor in (*tensors, *outputs))
    return Operator(
        name=name,
        type=_type(node),
        input_shapes=tuple(tuple(tensor.shape) for tensor in tensors if isinstance(tensor, Node)),
        output_shapes=tuple(tuple(spec.shape) for spec in outputs),
        attributes=tuple(_attributes(node).items()),
        flops=2 * count_macs(node) if count_macs else 0,
        params=sum(tensor.numel() for tensor in tensors if isinstance(tensor, nn.Parameter)),
        bytes=moved,
    )


def _type(node: Node) -> str:
    name: str = getattr(node.function, "__name__", repr(node.function))
    return name.strip("_")


def _tensors(arguments: Any) -> Iterator[Node | Tensor]:
    for argument in arguments.values() if isinstance(arguments, Mapping) else arguments:
        if isinstance(argument, Node | Tensor):
            yield argument
        elif isinstance(argument, tuple | list | Mapping):
            yield from _tensors(argument)


def _bytes(tensor: Node | Tensor | Spec) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def _attributes(node: Node) -> dict[str, Any]:
    """Return the arguments that are not tensors, by name; none for a view, which its shapes describe."""
    if node.function in _VIEWS:
        return {}
    arguments = {**dict(zip(argument_names().get(node.function, ()), node.args, strict=False)), **node.kwargs}
    kernel = {"kernel": tuple(arguments["weight"].shape[2:])} if node.function in _CONVOLUTIONS else {}
    return kernel | {
        name: value
        for name, value in arguments.items()
        if value is not None and name not in _WITHOUT_EFFECT and not list(_tensors((value,)))
    }


_WITHOUT_EFFECT = {"inplace", "training", "momentum", "eps", "_stacklevel"}
"""Arguments that do not change how much an eval module has to do."""


@cache
def argument_names() -> Mapping[Any, tuple[str, ...]]:
    """Return the names of the arguments of torch's functions and methods."""
    # Most of torch's functions are built in and have no signature; these stand-ins for them do.
    stand_ins = torch.overrides.get_testing_overrides()
    return {function: tuple(inspect.signature(stand_in).parameters) for function, stand_in in stand_ins.items()}


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


_VIEWS = frozenset(
    {
        *(torch.reshape, Tensor.reshape, Tensor.view, Tensor.view_as, torch.flatten, Tensor.flatten, Tensor.unflatten),
        *(torch.squeeze, Tensor.squeeze, torch.unsqueeze, Tensor.unsqueeze, Tensor.expand, Tensor.expand_as),
        *(torch.permute, Tensor.permute, torch.transpose, Tensor.transpose, torch.t, Tensor.t),
        *(torch.split, Tensor.split, torch.chunk, Tensor.chunk, torch.unbind, Tensor.unbind),
        *(operator.getitem, Tensor.contiguous, Tensor.detach, F.dropout, F.dropout2d),
    }
)
"""Functions that move no bytes: they give another view of the same memory, or do nothing in eval mode."""

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def _convolution(node: Node) -> int:
    # Every element of a convolution's output sums over one kernel and one group of input channels.
    _, weight, *_ = _tensors((node.args, node.kwargs))
    return math.prod(node.shape) * math.prod(weight.shape[1:])


def _transposed_convolution(node: Node) -> int:
    # Every element of its input is spread over one kernel and one group of output channels.
    x, weight, *_ = _tensors((node.args, node.kwargs))
    return math.prod(x.shape) * math.prod(weight.shape[1:])


def _matrix_product(node: Node) -> int:
    x, *_ = _tensors((node.args, node.kwargs))
    return math.prod(node.shape) * x.shape[-1]


def _attention(node: Node) -> int:
    query, key, *_ = _tensors((node.args, node.kwargs))
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    return scores * (query.shape[-1] + node.shape[-1])


_MACS: Mapping[Any, Callable[[Node], int]] = {
    **dict.fromkeys(_CONVOLUTIONS[:3], _convolution),
    **dict.fromkeys(_CONVOLUTIONS[3:], _transposed_convolution),
    **dict.fromkeys((F.linear, torch.matmul, Tensor.matmul, operator.matmul), _matrix_product),
    **dict.fromkeys((torch.bmm, Tensor.bmm, torch.mm, Tensor.mm), _matrix_product),
    F.scaled_dot_product_attention: _attention,
}
"""The multiply-accumulates of one call."""

"""An ONNX graph while it is being built, and the table of the writers that build it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import helper
from torch import nn

from latbench.tracing import Node
from latbench.tracing.operators import argument_names

Array = NDArray[Any]
Input = Node | str | torch.Tensor | Array | None
"""What an operator reads: a traced tensor, another operator's result, a weight, a constant; None is left out."""

Writer = Callable[..., Any]
WRITERS: dict[Any, Writer] = {}
"""The writer of each torch function and method."""


class UnknownOperatorError(Exception):
    """No writer knows this call: torch's own exporter takes over."""


def writes(*functions: Any) -> Callable[[Writer], Writer]:
    """Register a writer of torch functions and methods: ``writer(graph, *args, **kwargs)``, as the function was called.

    Tensors arrive as nodes or weights. The writer adds ONNX operators and returns the name of the result (or a list of
    names, where the function returns several tensors). It raises `UnknownOperatorError` for what it cannot express.
    """

    def register(writer: Writer) -> Writer:
        WRITERS.update(dict.fromkeys(functions, writer))
        return writer

    return register


def homes(*names: str) -> tuple[Any, ...]:
    """Return what these are called as functions of torch and of torch.nn.functional, and as methods."""
    found = (getattr(home, name, None) for name in names for home in (torch, F, torch.Tensor, torch.special))
    return tuple(function for function in found if function is not None)


@dataclass(slots=True)
class Operator:
    """One ONNX operator; constants stand among its inputs as arrays until the graph is serialised."""

    kind: str
    inputs: list[str | Array]
    outputs: list[str]
    attributes: Mapping[str, Any]
    node: Node
    """The call that it is part of."""


class Graph:
    """The operators that compute what a module computes.

    Args:
        module: the module that is written; its submodules name the operators, its parameters the weights.
    """

    def __init__(self, module: nn.Module) -> None:
        self.node = Node(None, (), {}, None)
        """The call that is being written: where a writer finds the shape and dtype of its result."""
        self.operators: list[Operator] = []
        self._paths: dict[nn.Module, str] = {}
        self._labels: dict[int, str] = {}
        self._results: dict[Node, str | list[str]] = {}
        self._producers: dict[str, Operator] = {}
        self._arrays: dict[Any, Array] = {}
        self._tensors: list[torch.Tensor] = []
        self._outputs: set[str] = set()
        self._taken: dict[str, int] = {}
        for path, child in module.named_modules():
            self._paths[child] = path
            # One walk over the modules: named_parameters() and named_buffers() would take two more.
            for name, tensor in (*child._parameters.items(), *child._buffers.items()):
                self._labels[id(tensor)] = f"{path}.{name}" if path else name

    def write_input(self, node: Node, name: str) -> None:
        """Name an input of the network."""
        self._results[node] = self.unique(name)

    def write(self, node: Node) -> None:
        """Write one call.

        Raises:
            UnknownOperatorError: no writer knows it, or not with these arguments.
        """
        self.node = node
        try:
            args, kwargs = positional(WRITERS[node.function], node)
            self._results[node] = WRITERS[node.function](self, *args, **kwargs)
        except Exception as error:  # a writer fails in its own way on arguments that it does not know
            function = torch.overrides.resolve_name(node.function) or repr(node.function)
            raise UnknownOperatorError(f"no ONNX writer for {function} in module {self.path(node)!r}") from error

    def write_output(self, output: Node | torch.Tensor) -> str:
        """Name an output of the network; one that is an input, a weight or another output too gets its own operator."""
        name = self._results[output] if isinstance(output, Node) else ""
        if name not in self._producers or name in self._outputs:
            name = self.add("Identity", output)
        self._outputs.add(name)
        return name

    def add(self, kind: str, *inputs: Input, outputs: int = 1, **attributes: Any) -> Any:
        """Add an ONNX operator; return the name of its result, or a list of names where it has several `outputs`."""
        name = self.unique(f"{self.path(self.node)}/{kind}")
        names = [name] if outputs == 1 else [f"{name}.{index}" for index in range(outputs)]
        values = [self._resolve(tensor) for tensor in inputs if tensor is not None]
        operator = Operator(kind, values, names, attributes, self.node)
        self.operators.append(operator)
        self._producers[name] = operator
        return name if outputs == 1 else names

    def name(self, node: Node | torch.Tensor) -> Any:
        """Return the name of a traced tensor (a list of names for several), for a writer that adds no operator."""
        return self._results[node] if isinstance(node, Node) else self.add("Identity", node)

    def cast(self, value: Input, dtype: torch.dtype) -> Any:
        """Add a change of dtype."""
        return self.add("Cast", value, to=element_type(dtype))

    def converted(self, tensor: torch.Tensor, dtype: torch.dtype) -> Array:
        """Return a weight in another dtype."""
        values = self.array(tensor)
        return self.once(
            ("converted", id(values), dtype), self.label(values), lambda: tensor.to(dtype).numpy(force=True)
        )

    def producer(self, node: Node) -> Operator | None:
        """Return the operator that computes a traced tensor; None for an input, and for another name of a tensor."""
        name = self._results[node]
        operator = self._producers.get(name) if isinstance(name, str) else None
        return operator if operator is not None and operator.node is node else None

    def array(self, tensor: torch.Tensor) -> Array:
        """Return the values of a weight: one array for one tensor, so that what a module shares stays shared."""
        found = self._arrays.get(id(tensor))
        if found is None:
            self._tensors.append(tensor)  # keeps it alive: another tensor could get its id later
            found = self._arrays[id(tensor)] = values_of(tensor)
            self._labels[id(found)] = self._labels.get(id(tensor), "")
        return found

    def integers(self, *values: int) -> Array:
        """Return a constant of 64-bit integers: axes, shapes, indices."""
        return self.once(values, "", lambda: np.array(values, np.int64))

    def scalar(self, value: float, dtype: torch.dtype) -> Array:
        """Return a Python number as a constant."""
        return self.filled(value, (), dtype)

    def filled(self, value: float, shape: tuple[int, ...], dtype: torch.dtype) -> Array:
        """Return a constant tensor that holds one value everywhere."""
        return self.once((value, tuple(shape), dtype), "", lambda: np.full(shape, value, numpy_dtype(dtype)))

    def once(self, key: Any, label: str, build: Callable[[], Array]) -> Array:
        """Return the constant of this key, built on first use, so that what is shared stays shared."""
        found = self._arrays.get(key)
        if found is None:
            found = self._arrays[key] = build()
            self._labels[id(found)] = label
        return found

    def path(self, node: Node) -> str:
        """Return the qualified name of the module that makes a call."""
        return self._paths.get(node.owner, "") if node.owner is not None else ""

    def label(self, array: Array) -> str:
        """Return the name of the parameter that a constant holds or comes from; empty for other constants."""
        return self._labels.get(id(array), "")

    def unique(self, name: str) -> str:
        """Return a name for a tensor that no other tensor has."""
        count = self._taken.get(name, 0)
        self._taken[name] = count + 1
        return self.unique(f"{name}_{count}") if count else name

    def _resolve(self, tensor: Node | str | torch.Tensor | Array) -> Any:
        if isinstance(tensor, Node):
            return self._results[tensor]
        return self.array(tensor) if isinstance(tensor, torch.Tensor) else tensor


def values_of(tensor: torch.Tensor) -> Array:
    """Return the values of a real tensor; the way that always works takes ten times as long."""
    if tensor.device.type == "cpu" and tensor.layout == torch.strided and not tensor.is_conj() and not tensor.is_neg():
        return tensor.detach().numpy()
    return tensor.numpy(force=True)


def positional(writer: Writer, node: Node) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return a call's arguments; those by names that are none of the writer's go by position."""
    kwargs = dict(node.kwargs)
    if not kwargs or kwargs.keys() <= _parameters(writer):
        return node.args, kwargs
    args = list(node.args)
    for name in argument_names().get(node.function, ())[len(args) :]:
        if name not in kwargs or name in _parameters(writer):
            break
        args.append(kwargs.pop(name))
    return tuple(args), kwargs


@cache
def _parameters(writer: Writer) -> frozenset[str]:
    return frozenset(inspect.signature(writer).parameters)


def element_type(dtype: torch.dtype) -> int:
    """Return ONNX's number of a dtype."""
    return int(helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype)))


@cache
def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Return NumPy's name of a torch dtype.

    Raises:
        TypeError: NumPy has none (bfloat16).
    """
    return torch.empty(0, dtype=dtype).numpy().dtype

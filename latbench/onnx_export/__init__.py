"""A torch module as an ONNX file, written directly in milliseconds, batch norm folded.

`torch.onnx.export` takes seconds for a DARTS network. Here `latbench.tracing` records the calls of the eval module, and
one small function writes each call. An unknown operator needs no more than another one::

    @writes(torch.cummax, torch.Tensor.cummax)
    def cummax(graph, x, dim):
        return graph.add(...)
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.errors import first_line
from latbench.onnx_export import (  # noqa: F401 - they register
    activations,
    attention,
    elementwise,
    indexing,
    layers,
    normalisation,
    pooling,
    products,
    recurrent,
    reductions,
    resizing,
    shaping,
)
from latbench.onnx_export.fallback import write_with_torch
from latbench.onnx_export.graph import Graph, UnknownOperatorError, writes
from latbench.onnx_export.protobuf import serialise
from latbench.onnx_export.validity import fault
from latbench.tracing import trace
from latbench.tracing.garbage import collections_paused

__all__ = ["FallbackWarning", "Graph", "UnknownOperatorError", "export_onnx", "writes"]


class FallbackWarning(UserWarning):
    """The direct writer does not know an operator, so `torch.onnx.export` wrote the file, about 100 times slower."""


def export_onnx(module: nn.Module, inputs: Mapping[str, NDArray[Any] | Tensor], *, direct: bool = True) -> bytes:
    """Write a module as an ONNX file for inputs of these shapes.

    What the direct writer does not know, or writes wrongly, is written by `torch.onnx.export`, with a
    `FallbackWarning` that says why. The module is left as it was.

    Args:
        module: in eval mode; its output is a tensor, or tuples and dicts of tensors.
        inputs: sample inputs by name, in the order of the module's arguments.
        direct: False asks torch's exporter at once: for a file of the direct writer that computes something else than
            the module.

    Raises:
        ModelError: neither the direct writer nor torch's exporter can write it.
    """
    reason = f"the file that latbench wrote for {type(module).__name__} computes something else"
    if direct:
        try:
            with collections_paused(), _as_written():
                return _write(module, inputs)
        except UnknownOperatorError as error:
            reason = str(error)
    warnings.warn(
        f"{reason}: torch.onnx.export writes {type(module).__name__} instead, about 100 times slower; "
        "latbench.onnx_export.writes teaches the direct writer an operator",
        FallbackWarning,
        stacklevel=2,
    )
    return write_with_torch(module, inputs, reason)


def _as_written() -> AbstractContextManager[object]:
    """Have modules run as they are written: with what torch.compile makes of one, the tracer would be compiled, too."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes a second
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def _write(module: nn.Module, inputs: Mapping[str, NDArray[Any] | Tensor]) -> bytes:
    try:
        traced = trace(module, inputs)
    except Exception as error:  # a forward pass may raise anything when it meets a stand-in for a tensor
        raise UnknownOperatorError(f"{type(module).__name__} cannot be traced ({first_line(error)})") from error
    graph = Graph(module)
    for name, node in zip(inputs, traced.inputs, strict=True):
        graph.write_input(node, name)
    for node in traced.nodes:
        graph.write(node)
    data = serialise(graph, traced)
    if reason := fault(data, traced):
        raise UnknownOperatorError(f"the file that latbench wrote for {type(module).__name__} is not valid ({reason})")
    return data

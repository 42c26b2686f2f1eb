"""A torch module as an ONNX file, written directly in milliseconds, batch norm folded.

`torch.onnx.export` takes seconds for a DARTS network. Here `latbench.tracing` records the calls of the eval module, and
one small function writes each call. An unknown operator needs no more than another one::

    @writes(torch.cumsum, torch.Tensor.cumsum)
    def cumsum(graph, x, dim):
        return graph.add("CumSum", x, graph.scalar(dim, torch.int64))
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.errors import ModelError, first_line
from latbench.onnx_export import activations, attention, elementwise, layers, pooling, shaping  # noqa: F401 - they register
from latbench.onnx_export.graph import Graph, UnknownOperatorError, writes
from latbench.onnx_export.protobuf import serialise
from latbench.tracing import trace
from latbench.tracing.quiet import quiet

__all__ = ["FallbackWarning", "Graph", "UnknownOperatorError", "export_onnx", "writes"]


class FallbackWarning(UserWarning):
    """The direct writer does not know an operator, so `torch.onnx.export` wrote the file, about 100 times slower."""


def export_onnx(module: nn.Module, inputs: Mapping[str, NDArray[Any] | Tensor], *, direct: bool = True) -> bytes:
    """Write a module as an ONNX file for inputs of these shapes.

    A module with an operator that the direct writer does not know is written by `torch.onnx.export`, with a
    `FallbackWarning` that names the operator.

    Args:
        module: in eval mode; its output is a tensor or a tuple of tensors.
        inputs: sample inputs by name, in the order of the module's arguments.
        direct: False asks torch's exporter at once: for a file of the direct writer that computes something else than
            the module.

    Raises:
        ModelError: neither the direct writer nor torch's exporter can write it.
    """
    reason = f"the file that latbench wrote for {type(module).__name__} computes something else"
    if direct:
        try:
            return _write(module, inputs)
        except UnknownOperatorError as error:
            reason = str(error)
    warnings.warn(
        f"{reason}: torch.onnx.export writes {type(module).__name__} instead, about 100 times slower; "
        "latbench.onnx_export.writes teaches the direct writer an operator",
        FallbackWarning,
        stacklevel=2,
    )
    return _write_with_torch(module, inputs, reason)


def _write(module: nn.Module, inputs: Mapping[str, NDArray[Any] | Tensor]) -> bytes:
    try:
        # NumPy has no bfloat16: such a sample stays a tensor, which only torch's exporter takes.
        arrays = {name: x.numpy() if isinstance(x, Tensor) else x for name, x in inputs.items()}
        traced = trace(module, arrays)
    except Exception as error:  # a forward pass may raise anything when it meets a stand-in for a tensor
        raise UnknownOperatorError(f"{type(module).__name__} cannot be traced ({first_line(error)})") from error
    graph = Graph(module)
    for name, node in zip(inputs, traced.inputs, strict=True):
        graph.write_input(node, name)
    for node in traced.nodes:
        graph.write(node)
    return serialise(graph, traced)


def _write_with_torch(module: nn.Module, inputs: Mapping[str, NDArray[Any] | Tensor], reason: str) -> bytes:
    if importlib.util.find_spec("onnxscript") is None:
        raise ModelError(f"{reason}, and torch.onnx.export needs 'onnxscript': pip install onnxscript")
    samples = tuple(x if isinstance(x, Tensor) else torch.from_numpy(x) for x in inputs.values())
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")  # its own deprecations: the user cannot mend them
        try:
            program = torch.onnx.export(module, samples, input_names=list(inputs), dynamo=True, verbose=False)
        except Exception as error:  # torch.export raises what the module raises
            raise ModelError(
                f"{type(module).__name__} cannot be written as ONNX "
                f"({reason}; torch.onnx.export: {first_line(error)}): measure it on a backend that runs modules"
            ) from error
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data

"""A graph as the bytes of an ONNX file."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from onnx import AttributeProto, GraphProto, ModelProto, OperatorSetIdProto, TensorProto, ValueInfoProto, helper

from latbench.onnx_export.graph import Array, Graph, numpy_dtype
from latbench.tracing import Node, Trace

OPSET = 17
"""The oldest opset with LayerNormalization: TensorRT 8.6, ONNX Runtime 1.12 and everything later reads it."""
IR_VERSION = 8
"""The file format that came with the opset."""


def serialise(graph: Graph, trace: Trace) -> bytes:
    """Return a graph as an ONNX file.

    Weights are written once each, as raw bytes; attributes are encoded once for each distinct value.
    """
    message = ModelProto(ir_version=IR_VERSION, producer_name="latbench")
    message.opset_import.add(version=OPSET)
    body = message.graph
    body.name = "latbench"
    body.input.extend(_value_info(graph.name(node), node) for node in trace.inputs)
    body.output.extend(_value_info(graph.write_output(output), output) for output in trace.outputs)
    constants = _Constants(graph, body)
    for operator in graph.operators:
        body.node.add(
            op_type=operator.kind,
            name=operator.outputs[0],
            input=[value if isinstance(value, str) else constants.name(value) for value in operator.inputs],
            output=operator.outputs,
            attribute=[_attribute(key, value) for key, value in operator.attributes.items()],
        )
    return message.SerializeToString()


class _Constants:
    """Writes each constant that an operator reads, once, under a name of its own."""

    def __init__(self, graph: Graph, body: GraphProto) -> None:
        self._graph = graph
        self._body = body
        self._names: dict[int, str] = {}
        self._taken: dict[str, int] = {}

    def name(self, array: Array) -> str:
        name = self._names.get(id(array))
        if name is None:
            label = self._graph.label(array) or "constant"
            count = self._taken[label] = self._taken.get(label, 0) + 1
            name = self._names[id(array)] = label if count == 1 else f"{label}_{count}"
            self._body.initializer.add(
                name=name, dims=array.shape, data_type=_element_type(array.dtype), raw_data=array.tobytes()
            )
        return name


@lru_cache(maxsize=1 << 12)
def _attribute(name: str, value: Any) -> AttributeProto:
    return helper.make_attribute(name, value)


def element_type(dtype: torch.dtype) -> int:
    """Return ONNX's number of a dtype."""
    return _element_type(numpy_dtype(dtype))


@lru_cache(maxsize=64)
def _element_type(dtype: np.dtype[Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def _value_info(name: str, node: Node | torch.Tensor) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type(node.dtype), node.shape)

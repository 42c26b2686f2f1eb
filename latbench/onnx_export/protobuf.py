"""A graph as the bytes of an ONNX file.

ONNX files are protobuf messages. Python's protobuf objects copy every weight three times and take longer than tracing
does; joining the encoded fields takes a third of that. A field is encoded as its number and wire type, then
a varint, or a length and that many bytes (https://protobuf.dev/programming-guides/encoding). Field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from onnx import helper

from latbench.onnx_export.graph import Array, Graph, Operator, element_type
from latbench.tracing import Node, Trace

OPSET = 17
"""The oldest opset with LayerNormalization: TensorRT 8.6, ONNX Runtime 1.12 and everything later reads it."""
IR_VERSION = 8
"""The file format that came with the opset."""


def serialise(graph: Graph, trace: Trace) -> bytes:
    """Return a graph as an ONNX file; a weight is written once, however many operators read it."""
    inputs = [_value_info(graph.name(node), node) for node in trace.inputs]
    outputs = [_value_info(graph.write_output(output), output) for output in trace.outputs]
    constants = _Constants(graph)
    body = [
        *(_bytes(1, _node(operator, constants)) for operator in graph.operators),
        _text(2, "latbench"),
        *constants.fields,
        *(_bytes(11, value) for value in inputs),
        *(_bytes(12, value) for value in outputs),
    ]
    model = [
        _number(1, IR_VERSION),
        _text(2, "latbench"),
        _header(7, sum(map(len, body))),
        *body,
        _bytes(8, _number(2, OPSET)),
    ]
    return b"".join(model)


class _Constants:
    """Encodes each constant that an operator reads, once, under a name of its own."""

    def __init__(self, graph: Graph) -> None:
        self.fields: list[bytes] = []
        self._graph = graph
        self._names: dict[int, str] = {}

    def name(self, array: Array) -> str:
        name = self._names.get(id(array))
        if name is None:
            name = self._names[id(array)] = self._graph.unique(self._graph.label(array) or "constant")
            dims = (_number(1, size) for size in array.shape)
            start = b"".join((*dims, _number(2, _element_type(array.dtype)), _text(8, name), _header(9, array.nbytes)))
            self.fields += (_header(5, len(start) + array.nbytes), start, array.tobytes())
        return name


def _node(operator: Operator, constants: _Constants) -> bytes:
    names = (value if isinstance(value, str) else constants.name(value) for value in operator.inputs)
    fields: Iterable[bytes] = (
        *(_text(1, name) for name in names),
        *(_text(2, name) for name in operator.outputs),
        _text(3, operator.outputs[0]),
        _text(4, operator.kind),
        *(_attribute(name, value) for name, value in operator.attributes.items()),
    )
    return b"".join(fields)


@lru_cache(maxsize=1 << 12)
def _attribute(name: str, value: Any) -> bytes:
    return _bytes(5, helper.make_attribute(name, value).SerializeToString())


def _value_info(name: str, node: Node | torch.Tensor) -> bytes:
    info = helper.make_tensor_value_info(name, element_type(node.dtype), node.shape)
    return bytes(info.SerializeToString())


@lru_cache(maxsize=64)
def _element_type(dtype: np.dtype[Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(dtype))


@lru_cache(maxsize=1 << 14)
def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, payload: bytes) -> bytes:
    return _header(field, len(payload)) + payload


@lru_cache(maxsize=1 << 14)
def _header(field: int, length: int) -> bytes:
    return _varint(field << 3 | 2) + _varint(length)


@lru_cache(maxsize=1 << 12)
def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)

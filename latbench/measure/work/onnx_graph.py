"""Count the multiply-accumulates and the weights of an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from latbench.measure.work.convolution import inside_share, least_share

_STRIPPED_ELEMENTS = 1024
"""Weights of more elements are of no use to shape inference, which copies what it gets."""

_PRODUCTS = ("Conv", "Gemm", "MatMul")
_SINGLE = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
_NO_WEIGHTS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL, onnx.TensorProto.STRING)
"""Types of shapes, indices and masks."""

Shape = tuple[int, ...]


def count(data: bytes, inputs: Mapping[str, NDArray[Any]]) -> tuple[int, float, int | None, float | None, int | None]:
    """Return the fields of `latbench.measure.work.Work`.

    Only convolutions and matrix products of the main graph that lie between its inputs and its outputs count: a runtime
    folds what depends on constants alone, drops what no output needs, and need not enter a branch.
    """
    model = onnx.load_model_from_string(data)
    weights = _weights(model.graph)
    elements = sum(math.prod(w.dims) for w in weights if w.data_type not in _NO_WEIGHTS)
    held = sum(_bytes(w) for w in weights)
    sizes = {w.name: (tuple(w.dims), w.data_type) for w in model.graph.initializer}
    try:
        shapes = sizes | _shapes(model, inputs)
        macs, least_flops, read = _products(model.graph, shapes, set(inputs))
    except (KeyError, ValueError, IndexError, onnx.shape_inference.InferenceError):
        return elements, held / 2**20, None, None, None
    weighed = {weight.name: int(_bytes(weight)) for weight in weights if weight.name in read}
    return elements, held / 2**20, macs, least_flops, sum(weighed.values())


def _weights(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    constants = (node for node in graph.node if node.op_type == "Constant")
    held = [attribute.t for node in constants for attribute in node.attribute if attribute.name == "value"]
    branches = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [*graph.initializer, *held, *(weight for branch in branches for weight in _weights(branch))]


def _bytes(weight: onnx.TensorProto) -> float:
    if weight.data_type == onnx.TensorProto.STRING:
        return 0
    # Types of four bits take a byte each in NumPy and half of one in the file.
    name = onnx.TensorProto.DataType.Name(weight.data_type)
    half = 0.5 if name.endswith("INT4") or name.startswith("FLOAT4") else 1
    itemsize: int = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize
    return float(math.prod(weight.dims) * itemsize * half)


def _shapes(model: onnx.ModelProto, inputs: Mapping[str, NDArray[Any]]) -> dict[str, tuple[Shape, int]]:
    """Return shape and type of the tensors for inputs of these shapes; `model` loses its weights."""
    for weight in model.graph.initializer:
        if math.prod(weight.dims) > _STRIPPED_ELEMENTS:
            weight.ClearField("raw_data")
            weight.ClearField("float_data")
    for value in model.graph.input:
        if value.name in inputs:
            dimensions = value.type.tensor_type.shape
            dimensions.Clear()
            for size in inputs[value.name].shape:
                dimensions.dim.add().dim_value = size
    # What the file says of its own values holds for the shapes that it was exported for.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            known[value.name] = tuple(d.dim_value for d in tensor.shape.dim), tensor.elem_type
    return known


def _products(
    graph: onnx.GraphProto, shapes: Mapping[str, tuple[Shape, int]], inputs: set[str]
) -> tuple[int, float, set[str]]:
    """Return the multiply-accumulates, the least operations in single precision, and what these read."""
    macs, least = 0, 0.0
    read: set[str] = set()
    seen: set[bytes] = set()
    for node in _computing(graph, inputs):
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.ClearField("name")
        twin.ClearField("output")
        key = twin.SerializeToString(deterministic=True)
        if node.op_type not in (*_PRODUCTS, "ConvTranspose") or key in seen:
            continue
        seen.add(key)
        counted, share = _node_macs(node, shapes)
        macs += counted
        if shapes[node.input[1]][1] in _SINGLE and shapes[node.input[0]][1] in _SINGLE:
            least += 2 * counted * share
            read.update(node.input[:2])
    return macs, least, read


def _computing(graph: onnx.GraphProto, inputs: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that depend on an input, and that an output depends on."""
    moving = set(inputs)
    dependent = []
    for node in graph.node:
        # A node with branches may read any value from inside them.
        nested = any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)
        if nested or moving.intersection(node.input):
            moving.update(node.output)
            dependent.append(node)
    needed = {value.name for value in graph.output}
    live = []
    for node in reversed(dependent):
        if needed.intersection(node.output):
            needed.update(_read(node))
            live.append(node)
    return live[::-1]


def _read(node: onnx.NodeProto) -> set[str]:
    graphs = (attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH)
    inner = (name for graph in graphs for each in graph.node for name in _read(each))
    outputs = (value.name for a in node.attribute if a.type == onnx.AttributeProto.GRAPH for value in a.g.output)
    return {*node.input, *inner, *outputs}


def _node_macs(node: onnx.NodeProto, shapes: Mapping[str, tuple[Shape, int]]) -> tuple[int, float]:
    """Return a node's multiply-accumulates, and the share of them that no algorithm avoids."""
    (x, _), (weight, _) = shapes[node.input[0]], shapes[node.input[1]]
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "ConvTranspose":
        return math.prod(x) * math.prod(weight[1:]), 1.0
    y, _ = shapes[node.output[0]]
    if node.op_type == "MatMul":
        return math.prod(y) * x[-1], 1.0
    if node.op_type == "Gemm":
        return math.prod(y) * x[0 if attributes.get("transA") else 1], 1.0
    return math.prod(y) * math.prod(weight[1:]), _share(x, weight, y, attributes)


def _share(x: Shape, weight: Shape, y: Shape, attributes: Mapping[str, Any]) -> float:
    kernel = weight[2:]
    ones = (1,) * len(kernel)
    stride, dilation = attributes.get("strides", ones), attributes.get("dilations", ones)
    share = least_share(kernel, stride, dilation, attributes.get("group", 1))
    pads = attributes.get("pads")
    if pads is None:  # none, or as much as `auto_pad` asks for
        reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(y[2:], stride, kernel, dilation, strict=True)]
        pads = [max(0, r - size) // 2 for r, size in zip(reach, x[2:], strict=True)]
    before = pads[: len(kernel)]
    return share * inside_share(x[2:], y[2:], kernel=kernel, stride=stride, padding=before, dilation=dilation)

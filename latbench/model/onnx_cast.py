"""An ONNX model in another precision: every float32 tensor as float16 or bfloat16, or every bfloat16 one as float32.

Runtimes with strongly typed networks (TensorRT from version 11 on) compute in the types that the file has, so its
precision is chosen here. The operators' own schemas (`onnx.defs`) say which inputs stay float32, such as the scales of
``Resize`` or all of ``NonMaxSuppression``: those read a float32 constant, or come through a ``Cast``.
A runtime without kernels for bfloat16 gets float32, which holds all its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper
from onnx.defs import OpSchema

from latbench.errors import ModelError, UsageError

PRECISIONS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}

_NARROW = "tensor(float16)"
"""The type by which a schema shows that an operand may be narrow. Schemas list bfloat16 for convolutions only from
opset 22 on, while runtimes take it in older files too."""
_SINGLE = ".float32"
"""Ends the name of the float32 form of a tensor."""
_DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
_MAX_FLOAT16 = float(np.finfo(np.float16).max)


def cast_onnx(data: bytes, precision: str) -> bytes:
    """Return an ONNX file with its float32 tensors in `precision`, its inputs and outputs among them.

    Integers, booleans and float64 stay. Finite constants beyond the range of float16 become its largest number, since
    an infinite mask makes a softmax NaN.

    Args:
        data: an ONNX file with its weights inside.
        precision: ``"fp16"`` or ``"bf16"``.

    Raises:
        UsageError: another precision.
        ModelError: the file holds control flow, or an operator that ONNX does not define, so that its types are not
            known.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"an ONNX file cannot be cast to {precision!r}: choose one of {', '.join(PRECISIONS)}")
    model = onnx.load_model_from_string(data)
    if model.functions:
        model = inliner.inline_local_functions(model)
    model = onnx.shape_inference.infer_shapes(model)
    _Cast(model, PRECISIONS[precision]).rewrite()
    result: bytes = model.SerializeToString()
    return result


def widen_onnx(data: bytes) -> bytes:
    """Return an ONNX file with its bfloat16 tensors as float32: weights, inputs, outputs, and what operators write.

    Args:
        data: an ONNX file with its weights inside.
    """
    model = onnx.load_model_from_string(data)
    if model.functions:
        model = inliner.inline_local_functions(model)
    for graph in _graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for tensor in graph.initializer:
            _widen(tensor)
        for node in graph.node:
            for attribute in node.attribute:
                _widen(attribute.t)
                if attribute.name in _DTYPE_ATTRIBUTES and attribute.i == TensorProto.BFLOAT16:
                    attribute.i = TensorProto.FLOAT
    result: bytes = model.SerializeToString()
    return result


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.BFLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


class _Cast:
    """One pass over the nodes, which ONNX keeps in an order in which every tensor is written before it is read."""

    def __init__(self, model: ModelProto, narrow: int) -> None:
        self._graph: GraphProto = model.graph
        self._narrow = narrow
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._floats = _float_names(self._graph)
        self._nodes: list[NodeProto] = []
        self._singles: set[str] = set()
        """Names of the tensors whose float32 form has been written."""

    def rewrite(self) -> None:
        """Change the graph in place."""
        graph = self._graph
        for node in graph.node:
            if node.op_type == "Constant" and node.output[0] in self._floats:
                self._constants[node.output[0]] = _constant(node)
            else:
                self._write(node)
        # By now, whatever reads a constant as float32 has its own copy.
        narrowed = [self._narrowed(tensor) for tensor in self._constants.values()]
        for values in (graph.input, graph.output):
            for value in values:
                if value.name in self._floats:
                    value.type.tensor_type.elem_type = self._narrow
        for field, entries in (("node", self._nodes), ("initializer", narrowed), ("value_info", [])):
            graph.ClearField(field)
            getattr(graph, field).extend(entries)

    def _write(self, node: NodeProto) -> None:
        schema = self._schema(node)
        inputs = [
            self._single(name) if name in self._floats and not _takes_narrow(schema.inputs, i, schema) else name
            for i, name in enumerate(node.input)
        ]
        single_outputs = [
            name
            for i, name in enumerate(node.output)
            if name in self._floats and not _takes_narrow(schema.outputs, i, schema)
        ]
        written = NodeProto()
        written.CopyFrom(node)
        written.ClearField("input")
        written.input.extend(inputs)
        for i, name in enumerate(node.output):
            if name in single_outputs:
                written.output[i] = name + _SINGLE
        for attribute in written.attribute:
            self._narrow_attribute(node, attribute)
        self._nodes.append(written)
        for name in single_outputs:
            self._singles.add(name)
            self._nodes.append(helper.make_node("Cast", [name + _SINGLE], [name], f"{name}.narrow", to=self._narrow))

    def _single(self, name: str) -> str:
        """Return the name of the float32 form of a tensor, written when it is first asked for."""
        if name not in self._singles:
            self._singles.add(name)
            if name in self._constants:
                copy = TensorProto()
                copy.CopyFrom(self._constants[name])
                copy.name = name + _SINGLE
                self._constants[copy.name] = copy
            else:
                single = name + _SINGLE
                self._nodes.append(helper.make_node("Cast", [name], [single], single, to=TensorProto.FLOAT))
        return name + _SINGLE

    def _narrow_attribute(self, node: NodeProto, attribute: AttributeProto) -> None:
        """Have a node write the narrow type where an attribute names the type that it writes."""
        if attribute.name in _DTYPE_ATTRIBUTES and attribute.i == TensorProto.FLOAT:
            attribute.i = self._narrow
        elif node.op_type == "ConstantOfShape" and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(self._as_narrow(attribute.t))

    def _narrowed(self, tensor: TensorProto) -> TensorProto:
        return self._as_narrow(tensor) if tensor.name in self._floats else tensor

    def _as_narrow(self, tensor: TensorProto) -> TensorProto:
        values = numpy_helper.to_array(tensor)
        data = _float16(values) if self._narrow == TensorProto.FLOAT16 else _bfloat16(values)
        return TensorProto(name=tensor.name, data_type=self._narrow, dims=tensor.dims, raw_data=data.tobytes())

    def _schema(self, node: NodeProto) -> OpSchema:
        who = f"{node.op_type} (node {node.name!r})"
        if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
            raise ModelError(f"{who} holds a graph of its own, which cannot be cast: measure it as fp32")
        try:
            return onnx.defs.get_schema(node.op_type, self._opsets.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError as error:
            raise ModelError(
                f"{who} is not an operator of ONNX, so the types that it takes are not known: "
                "measure it as fp32, or give a file that already has the precision"
            ) from error


def _float_names(graph: GraphProto) -> set[str]:
    """Return the names of all float32 tensors of an inferred graph."""
    values = (*graph.input, *graph.output, *graph.value_info)
    names = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _takes_narrow(formal: Sequence[OpSchema.FormalParameter], index: int, schema: OpSchema) -> bool:
    """Tell whether an operand may be narrow; the last one of a variadic operator stands for all that follow."""
    type_name = formal[min(index, len(formal) - 1)].type_str
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}.get(type_name, [type_name])
    return _NARROW in allowed


def _constant(node: NodeProto) -> TensorProto:
    """Return the value of a float32 ``Constant`` node."""
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(np.array(value, np.float32))
    tensor.name = node.output[0]
    return tensor


def _float16(values: NDArray[np.float32]) -> NDArray[np.float16]:
    finite = np.isfinite(values)
    return np.where(finite, np.clip(values, -_MAX_FLOAT16, _MAX_FLOAT16), values).astype(np.float16)


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to the nearest bfloat16, ties to even: the upper half of a float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)

"""What the graph of an ONNX file tells of itself: what its inputs index, what it computes in, what depends on what."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_SAME_VALUES = {
    "Identity",
    "Cast",
    "Unsqueeze",
    "Squeeze",
    "Reshape",
    "Flatten",
    "Transpose",
    "Expand",
    "Slice",
    "Tile",
}
"""Operators whose output holds the values of their first input, wherever these are then."""
_SAME_SHAPE = {"Identity", "Cast", "DequantizeLinear"}
_GATHERS = {"Gather": 1, "GatherElements": 1}
"""Operators that read a table, and which of their inputs the indices are."""
_TYPES = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16", 14: "fp32", 15: "fp64"}
_QUANTISED = {"QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "QuantizeLinear"}
_QUANTISED |= {"DequantizeLinear", "QGemm", "DynamicQuantizeMatMul", "MatMulNBits", "QAttention", "DynamicQuantizeLSTM"}


def nodes_of(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph, and of its branches and loops."""
    for node in graph.node:
        yield node
        for inner in _graphs_of(node):
            yield from nodes_of(inner)


def table_rows(graph: GraphProto) -> dict[str, int]:
    """Return for each tensor that indexes a table the number of its rows, of the smallest one if there are several.

    A table whose size the file does not tell counts as one row, which any table has.
    """
    nodes = list(nodes_of(graph))
    sizes = {weight.name: tuple(weight.dims) for inner in _all_graphs(graph) for weight in inner.initializer}
    for node in nodes:
        if node.op_type == "Constant":
            sizes.update((node.output[0], tuple(a.t.dims)) for a in node.attribute if a.name == "value")
    for value in (*graph.input, *graph.value_info):
        declared = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        if declared and all(declared):
            sizes.setdefault(value.name, declared)
    for node in nodes:
        if node.op_type in _SAME_SHAPE and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    rows: dict[str, int] = {}

    def bound(name: str, count: int) -> None:
        rows[name] = min(count, rows.get(name, count))

    for node in nodes:
        if node.op_type in _GATHERS and len(node.input) > 1:
            shape = sizes.get(node.input[0], ())
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            bound(node.input[_GATHERS[node.op_type]], shape[axis] if -len(shape) <= axis < len(shape) else 1)
    # Against the order of the nodes: what an index was made of.
    for node in reversed(nodes):
        if node.op_type in _SAME_VALUES and node.input and node.output[0] in rows:
            bound(node.input[0], rows[node.output[0]])
    return {name: max(count, 1) for name, count in rows.items()}


def depends_on_inputs(graph: GraphProto, inputs: Collection[str]) -> bool:
    """Whether an output of a graph depends on one of these inputs, whatever the order of the nodes is.

    A graph without nodes, or one that calls a function, is taken to.
    """
    reached, before = set(inputs), -1
    while len(reached) != before:  # once more only where the nodes are not in order
        before = len(reached)
        for node in graph.node:
            if not reached.isdisjoint(_reads(node)):
                reached.update(node.output)
    return not graph.node or any(value.name in reached for value in graph.output)


def precision_of_graph(graph: GraphProto) -> str:
    """Return the types of a file's weights, or else of its inputs: ``"fp32"``, ``"fp16"``, ``"fp32+int8"``."""
    graphs = list(_all_graphs(graph))
    constants = (
        a.t for node in nodes_of(graph) if node.op_type == "Constant" for a in node.attribute if a.HasField("t")
    )
    weights = (weight for inner in graphs for weight in inner.initializer)
    # Single numbers, such as scales and epsilons, are no weights.
    found = {_TYPES.get(w.data_type) for w in (*weights, *constants) if w.dims and max(w.dims) > 1}
    quantised = any(node.op_type in _QUANTISED for node in nodes_of(graph))
    if quantised:
        return "int8"
    types = found - {None} or {_TYPES.get(value.type.tensor_type.elem_type) for value in graph.input} - {None}
    return "+".join(sorted(kind for kind in types if kind)) or "fp32"


def _reads(node: NodeProto) -> set[str]:
    names = set(node.input)
    for inner in _graphs_of(node):
        for each in nodes_of(inner):
            names.update(each.input)
        names.update(value.name for value in inner.output)
    return names - {""}


def _graphs_of(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for inner in _graphs_of(node):
            yield from _all_graphs(inner)

"""Writers of recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latbench.onnx_export.graph import Array, Graph, UnknownOperatorError, writes
from latbench.tracing import Node

_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where ONNX's gates stand among those of torch: torch has i f g o and r z n, ONNX i o f g and z r n."""


def _recurrent(
    kind: str,
    activation: str,
    graph: Graph,
    x: Node,
    state: Any,
    weights: Sequence[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
    batch_first: bool = False,
) -> list[str]:
    """Write the layers one after the other; both directions of one are one operator."""
    if not isinstance(has_biases, bool) or (training and dropout) or any(isinstance(w, Node) for w in weights):
        raise UnknownOperatorError  # packed sequences come with other arguments
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)
    if each != (4 if has_biases else 2):
        raise UnknownOperatorError  # projections have weights of their own
    alone = len(x.shape) == 2  # one sequence without a batch
    value: Any = graph.add("Reshape", x, graph.integers(x.shape[0], 1, x.shape[1])) if alone else x
    if batch_first and not alone:
        value = graph.add("Transpose", x, perm=(1, 0, 2))
    length, batch = (x.shape[0], 1) if alone else (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
    hidden = weights[1].shape[1]
    states = [state] if kind != "LSTM" else list(state)
    finals: list[list[str]] = [[] for _ in states]
    for layer in range(layers):
        own = weights[layer * directions * each : (layer + 1) * directions * each]
        packed = [own[direction * each : (direction + 1) * each] for direction in range(directions)]
        initial = [_layer_state(graph, given, layer, directions, layers, batch, hidden) for given in states]
        value, *ends = _layer(graph, kind, activation, value, packed, initial, hidden, directions)
        merged = graph.add("Transpose", value, perm=(0, 2, 1, 3)) if directions == 2 else value
        value = graph.add("Reshape", merged, graph.integers(length, batch, directions * hidden))
        for found, end in zip(finals, ends, strict=True):
            found.append(end)
    if batch_first and not alone:
        value = graph.add("Transpose", value, perm=(1, 0, 2))
    result = [found[0] if layers == 1 else graph.add("Concat", *found, axis=0) for found in finals]
    if alone:
        value = graph.add("Reshape", value, graph.integers(length, directions * hidden))
        result = [graph.add("Reshape", end, graph.integers(layers * directions, hidden)) for end in result]
    return [value, *result]


def _layer_state(graph: Graph, state: Any, layer: int, directions: int, layers: int, batch: int, hidden: int) -> Any:
    if len(state.shape) == 2:
        state = graph.add("Reshape", state, graph.integers(layers * directions, batch, hidden))
    if layers == 1:
        return state
    start, end = layer * directions, (layer + 1) * directions
    return graph.add("Slice", state, *(graph.integers(v) for v in (start, end, 0)))


def _layer(
    graph: Graph,
    kind: str,
    activation: str,
    x: Any,
    packed: list[Sequence[Tensor]],
    initial: list[Any],
    hidden: int,
    directions: int,
) -> Any:
    inputs = _stacked(graph, kind, [weights[0] for weights in packed], hidden)
    recurrent = _stacked(graph, kind, [weights[1] for weights in packed], hidden)
    biases: Any = ""
    if len(packed[0]) == 4:
        halves = [_stacked(graph, kind, [weights[place] for weights in packed], hidden) for place in (2, 3)]
        key = ("biases", *map(id, halves))
        biases = graph.once(key, graph.label(halves[0]), lambda: np.concatenate(halves, axis=1))
    attributes: dict[str, Any] = {"hidden_size": hidden}
    if directions == 2:
        attributes["direction"] = "bidirectional"
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    if kind == "RNN":
        attributes["activations"] = (activation,) * directions
    outputs = 3 if kind == "LSTM" else 2
    return graph.add(kind, x, inputs, recurrent, biases, "", *initial, outputs=outputs, **attributes)


def _stacked(graph: Graph, kind: str, weights: list[Tensor], hidden: int) -> Array:
    """Return the weights of each direction with the gates in ONNX's order."""
    arrays = [graph.array(weight) for weight in weights]
    order = _GATES[kind]

    def stack() -> Array:
        gates = [np.split(array, len(order)) for array in arrays]
        return np.stack([np.concatenate([parts[gate] for gate in order]) for parts in gates])

    return graph.once((kind, *map(id, arrays)), graph.label(arrays[0]), stack)


def _cell(
    kind: str, activation: str, graph: Graph, x: Node, state: Any, w_ih: Tensor, w_hh: Tensor, *biases: Tensor | None
) -> Any:
    """Write one step of a layer, as a sequence of length one."""
    batch, width = x.shape if len(x.shape) == 2 else (1, x.shape[0])
    hidden = w_hh.shape[1]
    sequence = graph.add("Reshape", x, graph.integers(1, batch, width))
    states = list(state) if kind == "LSTM" else [state]
    initial = [graph.add("Reshape", given, graph.integers(1, batch, hidden)) for given in states]
    weights = [w_ih, w_hh, *(bias for bias in biases if bias is not None)]
    _, *ends = _layer(graph, kind, activation, sequence, [weights], initial, hidden, 1)
    spec = graph.node.spec
    shape = spec[0].shape if kind == "LSTM" else spec.shape
    found = [graph.add("Reshape", end, graph.integers(*shape)) for end in ends]
    return found if kind == "LSTM" else found[0]


for kind, activation, name in (
    ("LSTM", "", "lstm"),
    ("GRU", "", "gru"),
    ("RNN", "Tanh", "rnn_tanh"),
    ("RNN", "Relu", "rnn_relu"),
):
    writes(getattr(torch, name))(partial(_recurrent, kind, activation))
    writes(getattr(torch, f"{name}_cell"))(partial(_cell, kind, activation))

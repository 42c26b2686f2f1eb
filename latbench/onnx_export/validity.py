"""Whether a written file is valid, and its operators have the shapes and types that the trace says."""

from __future__ import annotations

from typing import Any

import onnx

from latbench.errors import first_line
from latbench.tracing import Node, Trace
from latbench.tracing.specs import freeze, freeze_keywords

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes of the largest message that protobuf reads."""

_VALID: set[Any] = set()
"""The calls of valid files: equal calls are written as equal operators, whatever network they are in."""


def fault(data: bytes, trace: Trace) -> str:
    """Return what is wrong with the file of a trace; empty if it is valid, or too large for ONNX's checker to read.

    The checker takes as long as all of the writing. The networks of a space make the same few hundred calls, so a file
    in which every call was part of a valid one before is valid too.
    """
    calls = set(map(_signature, trace.nodes))
    if calls <= _VALID or len(data) > PROTOBUF_LIMIT:
        return ""
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return first_line(error)
    _VALID.update(calls)
    return ""


def _signature(node: Node) -> Any:
    if node.signature is not None:
        return node.signature
    key = node.function, tuple(map(freeze, node.args)), freeze_keywords(node.kwargs), node.spec
    try:
        hash(key)
    except TypeError:  # an argument of a kind that is no part of a key: no other call is equal
        return object()
    return key

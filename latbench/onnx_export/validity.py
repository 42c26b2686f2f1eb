"""Whether a written file is valid, and its operators have the shapes and types that the trace says."""

from __future__ import annotations

import onnx

from latbench.errors import first_line

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes of the largest message that protobuf reads."""


def fault(data: bytes) -> str:
    """Return what is wrong with a file; empty if it is valid, or too large for ONNX's checker to read."""
    if len(data) > PROTOBUF_LIMIT:
        return ""
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return first_line(error)
    return ""

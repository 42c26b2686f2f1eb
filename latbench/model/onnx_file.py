"""Read an ONNX file: its bytes with the weights inside, and the inputs that it declares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latbench.errors import ModelError, first_line
from latbench.model.inputs import DeclaredInput
from latbench.model.onnx_graph import depends_on_inputs, precision_of_graph, table_rows
from latbench.model.onnx_weights import external_bytes, external_tensors, take_in

if TYPE_CHECKING:
    import onnx

MOST_BYTES = 2**31 - 2**20
"""The most that one message of protobuf holds, with room for what is not weights."""


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """An ONNX model.

    Args:
        data: its bytes, with the weights inside; empty where they are too many for one message: see `path`.
        inputs: what it takes, weights excluded.
        precision: what it computes in.
        path: where a runtime opens it, if `data` is empty.
    """

    data: bytes
    inputs: tuple[DeclaredInput, ...]
    precision: str
    path: Path | None = None


def read_onnx(path: str | Path) -> OnnxFile:
    """Read an ONNX file; weights in files beside it are included, also those behind links.

    What an operator does is the runtime's business: nothing else of the file is checked here.

    Raises:
        ModelError: the file or its weights are missing, it is not ONNX, it takes anything but tensors of numbers, or
            nothing that it computes depends on them.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX model ({first_line(error)}): give a file of onnx.save") from error
    if not model.ir_version or not model.graph.output:
        raise ModelError(f"{path} is not an ONNX model (it holds no graph): give a file of onnx.save")
    weights = {
        weight.name for weight in (*model.graph.initializer, *(s.values for s in model.graph.sparse_initializer))
    }
    inputs = [value for value in model.graph.input if value.name not in weights]
    if not inputs:
        raise ModelError(f"{path} has no inputs: latbench measures networks that take inputs")
    if not depends_on_inputs(model.graph, {value.name for value in inputs}):
        raise ModelError(
            f"no output of {path} depends on its inputs, so a runtime computes nothing when it is called: "
            "export the network again"
        )
    rows = table_rows(model.graph)
    declared = tuple(_declared(value, path, rows.get(value.name, 0)) for value in inputs)
    precision = precision_of_graph(model.graph)
    outside = list(external_tensors(model))
    if outside:
        if len(data) + external_bytes(outside, path) > MOST_BYTES:
            return OnnxFile(b"", declared, precision, path)
        take_in(outside, path)
        data = model.SerializeToString()
    return OnnxFile(data, declared, precision)


def _declared(value: onnx.ValueInfoProto, path: Path, rows: int) -> DeclaredInput:
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else np.dtype(object)
    if dtype.kind not in "fiubc" and dtype.name != "bfloat16":
        kind = value.type.WhichOneof("value") or "tensor_type"
        what = "a tensor of another type" if kind == "tensor_type" else f"a {kind.removesuffix('_type')}"
        raise ModelError(
            f"input {value.name!r} of {path} is {what}, not a tensor of numbers: latbench cannot draw a sample of it"
        )
    if not tensor.HasField("shape"):
        return DeclaredInput(value.name, None, dtype.name, rows=rows)
    dimensions = tensor.shape.dim
    shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dimensions)
    return DeclaredInput(value.name, shape, dtype.name, dimensions[0].dim_param if dimensions else "", rows)

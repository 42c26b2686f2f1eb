"""Read an ONNX file: its bytes with the weights inside, and the inputs that it declares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latbench.errors import ModelError, first_line
from latbench.model.inputs import DeclaredInput

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """An ONNX model: its bytes, and its inputs without the weights."""

    data: bytes
    inputs: tuple[DeclaredInput, ...]


def read_onnx(path: str | Path) -> OnnxFile:
    """Read an ONNX file; weights in a file beside it, as `torch.onnx.export` writes them, are included.

    Raises:
        ModelError: the file or its weights are missing, it is not ONNX, or it takes anything but tensors.
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
        if any(onnx.external_data_helper.uses_external_data(weight) for weight in model.graph.initializer):
            _take_in_weights(model, path)
            data = model.SerializeToString()
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path} is not an ONNX model ({first_line(error)}): give a file that onnx.checker accepts"
        ) from error
    weights = {weight.name for weight in model.graph.initializer}
    inputs = tuple(_declared(value, path) for value in model.graph.input if value.name not in weights)
    return OnnxFile(data, inputs)


def _take_in_weights(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent.resolve()))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"cannot read the weights beside {path} ({first_line(error)}): keep both files in one folder"
        ) from error


def _declared(value: onnx.ValueInfoProto, path: Path) -> DeclaredInput:
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else np.dtype(object)
    if dtype.kind not in "fiub":
        raise ModelError(
            f"input {value.name!r} of {path} is not a tensor of numbers: latbench cannot draw a sample of it"
        )
    shape = tuple(dimension.dim_value or None for dimension in tensor.shape.dim) if tensor.HasField("shape") else None
    return DeclaredInput(value.name, shape, dtype.name)

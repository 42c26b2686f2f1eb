"""The inputs and outputs of an engine: where it reads and writes them, and pinned copies on the host."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from latbench.errors import CompileError, ModelError
from latbench.model import Model
from latbench_tensorrt.library import Library

_DTYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "BOOL": torch.bool,
}


class Tensors:
    """The inputs and outputs of an engine's contexts.

    Args:
        library: that built the engine.
        model: has the samples, which are cast to the types that the engine reads.
        native: the engine, deserialised.
        context: one of its contexts, which they are bound to.

    Raises:
        ModelError: the model has no sample for an input.
        CompileError: torch lacks a tensor's type, or an output's shape depends on data.
    """

    def __init__(self, library: Library, model: Model, native: Any, context: Any) -> None:
        mode = library.trt.TensorIOMode.INPUT
        names = [native.get_tensor_name(i) for i in range(native.num_io_tensors)]
        inputs = [name for name in names if native.get_tensor_mode(name) == mode]
        # The shapes of outputs are known once those of all inputs are.
        self._hosts = {name: _sample(model, name, _dtype(native, name)) for name in inputs}
        self._inputs = tuple(inputs)
        self._outputs = tuple(name for name in names if name not in inputs)
        self._set_shapes(context)
        for name in self._outputs:
            shape = tuple(context.get_tensor_shape(name))
            if -1 in shape:
                raise CompileError(f"the shape of output {name!r} of {model.name} depends on data: leave it out")
            self._hosts[name] = torch.empty(shape, dtype=_dtype(native, name)).pin_memory()
        devices = {name: _device_of(library, native, name) for name in names}
        self._bound = {name: torch.empty_like(self._hosts[name], device=devices[name]) for name in names}
        self.bind(context)

    @property
    def outputs(self) -> list[torch.Tensor]:
        """The copies of the outputs, as of the last `copy_out`."""
        return [self._hosts[name] for name in self._outputs]

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs and outputs."""
        return sum(tensor.nbytes for tensor in self._bound.values())

    def bind(self, context: Any) -> None:
        """Have a context read and write these tensors."""
        self._set_shapes(context)
        for name, tensor in self._bound.items():
            context.set_tensor_address(name, tensor.data_ptr())

    def copy_in(self) -> None:
        """Copy the inputs to the GPU, on the current stream."""
        for name in self._inputs:
            self._bound[name].copy_(self._hosts[name], non_blocking=True)

    def copy_out(self) -> None:
        """Copy the outputs back, on the current stream."""
        for name in self._outputs:
            self._hosts[name].copy_(self._bound[name], non_blocking=True)

    def _set_shapes(self, context: Any) -> None:
        for name in self._inputs:
            context.set_input_shape(name, tuple(self._hosts[name].shape))


def _device_of(library: Library, native: Any, name: str) -> str:
    """Return where a tensor lives: those that hold shapes are read on the host."""
    return "cuda" if native.get_tensor_location(name) == library.trt.TensorLocation.DEVICE else "cpu"


def _dtype(native: Any, name: str) -> torch.dtype:
    kind = native.get_tensor_dtype(name).name
    if kind not in _DTYPES:
        raise CompileError(f"tensor {name!r} is of type {kind}, which torch lacks: cast it in the file")
    return _DTYPES[kind]


def _sample(model: Model, name: str, dtype: torch.dtype) -> torch.Tensor:
    value: NDArray[Any] | None = model.inputs.get(name)
    if value is None:
        raise ModelError(f"{model.name} has no sample for its input {name!r}: give --input {name}:SHAPE:DTYPE")
    return torch.from_numpy(value).to(dtype).contiguous().pin_memory()

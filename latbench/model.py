"""What gets measured: sample inputs, and the same network as a torch module and as an ONNX file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ModelError

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from latbench.space import Architecture, Operation, SearchSpace

Inputs = Mapping[str, NDArray[Any]]


class Model:
    """A network with its sample inputs; the module is built and the ONNX file written once, when first asked for.

    Args:
        name: what the measurement is filed under; for an architecture its string form.
        inputs: sample inputs by name, batch first, in the order of the module's arguments.
        module: builds the torch module (in eval mode); None for a model that came as an ONNX file.
        onnx: gives the ONNX file; None writes it from the module.

    Attributes:
        build_ms: time spent so far on building the module and writing the ONNX file.
    """

    def __init__(
        self,
        name: str,
        inputs: Inputs,
        *,
        module: Callable[[], nn.Module] | None = None,
        onnx: Callable[[], bytes] | None = None,
    ) -> None:
        if module is None and onnx is None:
            raise TypeError("a Model needs a module or an ONNX file")
        self.name = name
        self.inputs = dict(inputs)
        self.build_ms = 0.0
        self._build_module = module
        self._read_onnx = onnx

    @classmethod
    def from_module(cls, module: nn.Module, inputs: Inputs, *, name: str = "") -> Model:
        """Wrap a torch module; it is measured in eval mode."""
        return cls(name or type(module).__name__, inputs, module=lambda: module)

    @classmethod
    def from_architecture(cls, space: SearchSpace, architecture: Architecture, *, batch: int = 1) -> Model:
        """Build an architecture of a search space for inputs of ``(batch, *space.input_shape)``."""
        inputs = {"x": sample_input((batch, *space.input_shape))}
        return cls(str(architecture), inputs, module=lambda: space.build(architecture))

    @classmethod
    def from_operation(cls, space: SearchSpace, operation: Operation, *, batch: int = 1) -> Model:
        """Build one operation of a search space for inputs of ``(batch, *operation.input_shape)``."""
        inputs = {"x": sample_input((batch, *operation.input_shape))}
        return cls(operation.key, inputs, module=lambda: space.build_operation(operation))

    @classmethod
    def from_onnx(cls, path: str | Path, inputs: Inputs | None = None) -> Model:
        """Read an ONNX file; sample inputs are drawn from its declared shapes unless given.

        Raises:
            ModelError: the file is missing or not ONNX, or an input has a free dimension and no sample is given.
        """
        data, graph = _read_onnx_file(Path(path))
        return cls(Path(path).name, inputs or _declared_inputs(graph, Path(path)), onnx=lambda: data)

    @cached_property
    def module(self) -> nn.Module:
        """The torch module in eval mode.

        Raises:
            ModelError: the model came as an ONNX file.
        """
        if self._build_module is None:
            raise ModelError(
                f"{self.name} came as an ONNX file and has no torch module: "
                "measure it on a backend that runs ONNX, or give a 'module:factory'"
            )
        start = time.perf_counter()
        module = self._build_module().eval()
        self.build_ms += (time.perf_counter() - start) * 1e3
        return module

    @property
    def has_module(self) -> bool:
        """Whether `module` can be asked for."""
        return self._build_module is not None

    @cached_property
    def onnx(self) -> bytes:
        """The network as an ONNX file, written from the module unless it came as one."""
        if self._read_onnx is not None:
            return self._read_onnx()
        from latbench.onnx_export import export_onnx

        module = self.module
        start = time.perf_counter()
        data = export_onnx(module, self.inputs)
        self.build_ms += (time.perf_counter() - start) * 1e3
        return data

    @property
    def digest(self) -> str:
        """The SHA-256 of the ONNX file, weights included; empty while no backend has asked for the file."""
        return hashlib.sha256(self.onnx).hexdigest() if "onnx" in self.__dict__ else ""

    def reference_outputs(self) -> list[NDArray[Any]]:
        """Return the module's own outputs for the sample inputs, what every compiled form is held against."""
        import torch

        with torch.inference_mode():
            result = self.module(*(torch.from_numpy(value) for value in self.inputs.values()))
        outputs = result if isinstance(result, tuple | list) else [result]
        return [output.numpy() for output in outputs]


def sample_input(shape: tuple[int, ...], *, dtype: np.dtype[Any] | type = np.float32, seed: int = 0) -> NDArray[Any]:
    """Draw a standard normal array, the same one for a shape every time; integer types give zeros, valid indices."""
    if not np.issubdtype(dtype, np.floating):
        return np.zeros(shape, dtype)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32).astype(dtype)


def _read_onnx_file(path: Path) -> tuple[bytes, onnx.ModelProto]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{path} is not an ONNX model ({reason}): give a file that onnx.checker accepts") from error
    return data, model


def _declared_inputs(model: onnx.ModelProto, path: Path) -> dict[str, NDArray[Any]]:
    import onnx

    weights = {initializer.name for initializer in model.graph.initializer}
    inputs: dict[str, NDArray[Any]] = {}
    for value in model.graph.input:
        if value.name in weights:
            continue
        tensor = value.type.tensor_type
        shape = tuple(dimension.dim_value for dimension in tensor.shape.dim)
        if not all(shape):
            raise ModelError(
                f"input {value.name!r} of {path} has no fixed shape: "
                f"give one, such as --input {value.name}:1x3x224x224:float32"
            )
        inputs[value.name] = sample_input(shape, dtype=onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return inputs

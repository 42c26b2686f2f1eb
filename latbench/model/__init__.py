"""What gets measured: sample inputs, and the same network as a torch module and as an ONNX file."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from latbench.errors import ModelError, first_line
from latbench.model.inputs import Inputs
from latbench.model.samples import Samples, in_order, named_samples, parameter_names

if TYPE_CHECKING:
    from torch import Tensor, nn


class Model:
    """A network with its sample inputs; the module is built and the ONNX file written once, when first asked for.

    Args:
        name: what the measurement is filed under; for an architecture its string form.
        inputs: sample inputs by name, batch first, in the order of the module's arguments: arrays, or tensors, which
            become arrays.
        module: builds the torch module (in eval mode); None for a model that came as an ONNX file.
        onnx: gives the ONNX file; None writes it from the module.

    Attributes:
        build_ms: time spent so far on building the module and writing the ONNX file.

    Raises:
        ModelError: a sample does not become an array of numbers.
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
        self.inputs = named_samples(name, list(inputs), inputs)
        self.build_ms = 0.0
        self._build_module = module
        self._read_onnx = onnx

    @classmethod
    def from_module(cls, module: nn.Module, inputs: Samples, *, name: str = "") -> Model:
        """Wrap a torch module. A copy of it is measured, on the CPU and in eval mode: the module stays as it is.

        Args:
            module: copied when it is first needed.
            inputs: a tensor or an array, several of them in a tuple in the order of ``forward``, or a dict by name.
            name: what the measurement is filed under; unless given, the module's class.

        Raises:
            ModelError: samples that ``forward`` does not take, or that NumPy has no type for.
        """
        name = name or type(module).__name__
        samples = named_samples(name, parameter_names(module), inputs)
        return cls(name, in_order(name, module, samples), module=lambda: _measurable(name, module))

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
        module = self._build_module()
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
        """Return the module's own outputs for the sample inputs: what every compiled form must reproduce."""
        import torch

        with torch.inference_mode():
            result = self.module(*(torch.from_numpy(value) for value in self.inputs.values()))
        return [output.numpy() for output in tensors_of(result)]


def _measurable(name: str, module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).cpu().eval()
    except RuntimeError as error:  # torch copies only tensors that a user has created, none that it has computed
        raise ModelError(
            f"{name} cannot be copied ({first_line(error)}): give a function that builds it instead"
        ) from error


def tensors_of(result: Any) -> Iterator[Tensor]:
    """Yield the tensors that a module returns, also those inside tuples, lists and dicts, in order.

    Raises:
        ModelError: it returns anything else.
    """
    from torch import Tensor

    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list | Mapping):
        for item in result.values() if isinstance(result, Mapping) else result:
            yield from tensors_of(item)
    else:
        raise ModelError(f"the module returns a {type(result).__name__}: wrap it so that it returns tensors")

"""What gets measured: sample inputs, and the same network as a torch module and as an ONNX file."""

from __future__ import annotations

import copy
import hashlib
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ModelError, first_line
from latbench.model.arrays import as_given, as_inputs, described, unlike
from latbench.model.inputs import SampleNote
from latbench.model.outputs import as_array, tensors_of
from latbench.model.samples import Call, Samples, in_order, leaves, named_samples, parameter_names

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Model", "evaluated", "tensors_of"]


_UNWATCHED = nullcontext()


class Model:
    """A network with its sample inputs; the module is built and the ONNX file written once, when first asked for.

    Args:
        name: what the measurement is filed under; for an architecture its string form.
        inputs: sample inputs by name, in the order of the module's arguments: tensors or arrays, or lists, tuples and
            dicts of them; what is not a tensor is passed to the module as it is.
        module: builds the torch module (in eval mode); None for a model that came as an ONNX file.
        onnx: gives the ONNX file; None writes it from the module.
        keywords: those of the inputs that the module takes by keyword.
        batch: how many inputs one inference takes; None where nobody knows.
        precision: what an ONNX file computes in; of a module it is read.
        path: the ONNX file where it is too large for `onnx` to give: 2 GiB or more.

    Attributes:
        inputs: the tensors among the samples by name, as arrays in C order: what a runtime of ONNX files takes.
        changes_inputs: whether the module has been seen to write into its inputs, or they hold NaN.
        here: what the module returned for `tensors`, where it has been tried.
        elsewhere: what it returned for `other_tensors`.
        build_ms: time spent so far on building the module and writing the ONNX file.

    Raises:
        ModelError: a sample does not become an array of numbers.
    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, Samples],
        *,
        module: Callable[[], nn.Module] | None = None,
        onnx: Callable[[], bytes] | None = None,
        keywords: Collection[str] = (),
        batch: int | None = None,
        precision: str = "",
        path: Path | None = None,
    ) -> None:
        if module is None and onnx is None:
            raise TypeError("a Model needs a module or an ONNX file")
        samples = named_samples(name, list(inputs), inputs)
        self.name, self.batch, self.path = name, batch, path
        self._call = Call.of(samples, keywords)
        # A module may change its inputs in place, and what the user handed over stays as it was.
        self._given = {leaf: as_given(name, leaf, value) for leaf, value in leaves(samples)}
        self.inputs = as_inputs(name, self._given)
        self.changes_inputs = False
        self.build_ms = 0.0
        self.here: list[NDArray[Any]] | None = None
        self.elsewhere: list[NDArray[Any]] | None = None
        self._was_shown, self._direct = False, True
        self._build_module, self._read_onnx, self._precision = module, onnx, precision

    @classmethod
    def from_module(cls, module: nn.Module, inputs: Samples, *, name: str = "", batch: int | None = None) -> Model:
        """Wrap a torch module. A copy of it is measured, on the CPU and in eval mode: the module stays as it is.

        Args:
            module: copied when it is first needed.
            inputs: a tensor or an array, several of them in a tuple in the order of ``forward``, or a dict by name.
            name: what the measurement is filed under; unless given, the module's class.
            batch: how many inputs one inference takes; None where nobody knows.

        Raises:
            ModelError: samples that ``forward`` does not take, or that NumPy has no type for.
        """
        name = name or type(module).__name__
        samples = named_samples(name, parameter_names(module), inputs)
        ordered, keywords = in_order(name, module, samples)
        return cls(name, ordered, module=lambda: _measurable(name, module), keywords=keywords, batch=batch)

    @cached_property
    def module(self) -> nn.Module:
        """The torch module in eval mode. It takes the `tensors` of the samples, whatever the network's own call is.

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
        if not self._call.is_plain:
            from latbench.model.calling import called

            module = called(module, self._call)
        self.build_ms += (time.perf_counter() - start) * 1e3
        return module

    @property
    def has_module(self) -> bool:
        """Whether `module` can be asked for."""
        return self._build_module is not None

    def tensors(self) -> list[Tensor]:
        """Return copies of the sample tensors as they were given: their types, their strides."""
        from latbench.model.calling import as_tensor

        self._was_shown = True
        return [as_tensor(value) for value in self._given.values()]

    def other_tensors(self) -> list[Tensor]:
        """Return tensors like those of the sample with other numbers in them, wherever these decide no shape."""
        from latbench.model.calling import as_tensor, unlike

        return [unlike(as_tensor(value)) for value in self._given.values()]

    @property
    def takes_other_numbers(self) -> bool:
        """Whether `other_tensors` differ from the sample's at all."""
        return any(not np.array_equal(unlike(x), x) for x in self.inputs.values())

    @cached_property
    def onnx(self) -> bytes:
        """The network as an ONNX file, written from the module unless it came as one.

        What writes it sees other numbers than the sample's, and so does a module that keeps what it has seen: a file
        into which they are frozen then computes something else than the module does.
        """
        if self.path is not None:
            raise ModelError(f"{self.name} holds 2 GiB or more: measure it on a backend that opens files by their path")
        if self._read_onnx is not None:
            return self._read_onnx()
        from latbench.onnx_export import FallbackWarning, export_onnx

        module = self.module
        start = time.perf_counter()
        if self._was_shown:
            self.show_other_numbers()
        samples = dict(zip(self.inputs, self.other_tensors(), strict=True))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = export_onnx(module, samples, direct=self._direct)
        for warning in caught:
            self._direct &= not issubclass(warning.category, FallbackWarning)
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        self.build_ms += (time.perf_counter() - start) * 1e3
        return data

    def write_again(self) -> bool:
        """Have `torch.onnx.export` write the ONNX file; return False where it has, or the file is the user's own.

        Raises:
            ModelError: it cannot.
        """
        if not self.is_direct:
            return False
        self._direct = False
        del self.onnx
        return bool(self.onnx)

    @property
    def is_direct(self) -> bool:
        """Whether a backend runs an ONNX file that latbench has written, and not `torch.onnx.export`."""
        return "onnx" in self.__dict__ and self._direct and self._read_onnx is None

    def calibrated(self) -> Model | None:
        """Return a model in which every part of the network shows; None where its module cannot be copied.

        It computes with the weights of `latbench.onnx_export.calibration.calibrated`.
        """
        from latbench.onnx_export.calibration import calibrated

        twin = copy.copy(self)
        twin.__dict__.pop("onnx", None)
        try:
            twin.module = calibrated(self.module)
        except (RuntimeError, TypeError, ValueError, AttributeError):  # what it keeps has no copy
            return None
        twin.here, twin.elsewhere = twin.reference_outputs(), twin.outputs_of(twin.other_tensors())
        return twin

    @property
    def digest(self) -> str:
        """The SHA-256 of the ONNX file, weights included; empty for one that nobody has asked for, or of 2 GiB."""
        return hashlib.sha256(self.onnx).hexdigest() if "onnx" in self.__dict__ else ""

    @cached_property
    def precision(self) -> str:
        """What the network computes in as it was given: ``"fp32"``, ``"fp16"``, ``"int8"``, ``"bf16+fp32"``, ..."""
        if self._build_module is None:
            return self._precision or "fp32"
        from latbench.model.precision import precision_of_weights

        return precision_of_weights(self.module, self._given.values())

    def described(self) -> dict[str, str]:
        """Return the samples for a record: ``{"x": "1x3x224x224:float32", "steps": "1:int64=50"}``."""
        return {name: described(value, self.inputs[name]) for name, value in self._given.items()}

    def show_other_numbers(self) -> None:
        """Run the module on `other_tensors`: what it keeps of a run is then not of the sample."""
        with suppress(Exception):  # it may take no other numbers than the sample's
            self.outputs_of(self.other_tensors())

    def reference_outputs(self) -> list[NDArray[Any]]:
        """Return the module's own outputs for the sample inputs: what every compiled form must reproduce."""
        return self.outputs_of(self.tensors())

    def outputs_of(
        self, tensors: list[Tensor], watch: AbstractContextManager[object] = _UNWATCHED
    ) -> list[NDArray[Any]]:
        """Return the module's own outputs for tensors, which it may change in place, and enter `watch` for its call."""
        import torch

        before = [x.clone() for x in tensors]
        module = self.module  # built before anybody watches, and with weights as training has them
        with torch.inference_mode():
            with watch:
                returned = module(*tensors)
            outputs = [as_array(output) for output in tensors_of(returned)]
        self.changes_inputs |= not all(map(torch.equal, before, tensors))
        return outputs


def evaluated(module: nn.Module) -> nn.Module:
    """Put a module into eval mode and return it: where ``train()`` is overridden, ``eval()`` may return nothing."""
    module.eval()
    training = [name or "itself" for name, child in module.named_modules() if child.training]
    if training:
        warnings.warn(
            f"{type(module).__name__} stays in training mode after eval() ({', '.join(training[:3])}): "
            "that is what is measured",
            SampleNote,
            stacklevel=2,
        )
    return module


def _measurable(name: str, module: nn.Module) -> nn.Module:
    import torch

    try:
        with torch.no_grad():  # so that the copied weights of TorchScript are no results, of which `cpu` warns
            return evaluated(copy.deepcopy(module).cpu())
    except RuntimeError as error:  # torch copies only tensors that a user has created, none that it has computed
        raise ModelError(
            f"{name} cannot be copied ({first_line(error)}): give a function that builds it instead"
        ) from error

"""The variants of a module that people deploy: its precision, memory format, autocast and ``torch.compile``."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn

from latbench.backend import CompileOptions, check_options
from latbench.errors import UsageError

Infer = Callable[..., Any]

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_AS_GIVEN = "as_given"
_MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
NO_YES = ("no", "yes")
IMAGES = 4
"""Dimensions of a batch of images: what a memory format applies to."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How a module is run.

    Args:
        precision: of weights and inputs, or of autocast's operators; fp32 and tf32 cast nothing.
        memory_format: of the images and of the kernels of convolutions; unless given, what they have.
        autocast: whether the weights stay fp32 and each run casts what gains from it, instead of casting all once.
        mode: of ``torch.compile``; None runs the module eagerly.
    """

    precision: str = "fp32"
    memory_format: str = _AS_GIVEN
    autocast: bool = False
    mode: str | None = None

    @classmethod
    def parse(
        cls,
        backend: str,
        options: CompileOptions,
        *,
        precisions: Collection[str],
        modes: Collection[str],
        more: Mapping[str, Collection[str]],
    ) -> Self:
        """Read the options.

        Args:
            backend: its name, for the messages.
            options: what was asked for.
            precisions: what the backend runs.
            modes: what ``compile`` may be beside ``no``.
            more: the backend's own options, which are only checked here.

        Raises:
            UsageError: an unknown option, value or precision, or autocast to fp32.
        """
        known = {"memory_format": (_AS_GIVEN, *_MEMORY_FORMATS), "autocast": NO_YES, "compile": ("no", *modes), **more}
        given = options.options
        check_options(backend, given, known)
        if options.precision not in precisions:
            raise UsageError(f"backend {backend!r} runs {', '.join(precisions)}, not {options.precision}")
        autocast = given.get("autocast") == "yes"
        if autocast and DTYPES[options.precision] == torch.float32:
            raise UsageError(f"autocast=yes with {options.precision} casts nothing: give --precision fp16 or bf16")
        mode = given.get("compile", "no")
        return cls(options.precision, given.get("memory_format", _AS_GIVEN), autocast, None if mode == "no" else mode)

    @property
    def dtype(self) -> torch.dtype | None:
        """The type that weights and inputs are cast to; None leaves them as they are."""
        dtype = DTYPES[self.precision]
        return None if self.autocast or dtype is torch.float32 else dtype

    def moved(self, module: nn.Module, device: str) -> nn.Module:
        """Return the module with its weights in the form that runs; the given one stays as it was."""
        tensors = chain(module.parameters(), module.buffers())
        ready = all(x.device.type == device and self._type_of(x) is x.dtype for x in tensors)
        if ready and self.memory_format == _AS_GIVEN:
            return module
        # Module.to works in place, and outputs are compared with those of the model's own module.
        moved = copy.deepcopy(module).to(device, self.dtype)
        if self.memory_format == _AS_GIVEN:
            return moved
        return moved.to(memory_format=_MEMORY_FORMATS[self.memory_format])  # type: ignore[call-overload,no-any-return]

    def moved_input(self, x: Tensor, device: str) -> Tensor:
        """Return an input as the module takes it."""
        moved = x.to(device, self._type_of(x))
        if self.memory_format == _AS_GIVEN or x.ndim != IMAGES:
            return moved
        return moved.contiguous(memory_format=_MEMORY_FORMATS[self.memory_format])

    def _type_of(self, x: Tensor) -> torch.dtype:
        return self.dtype if self.dtype is not None and x.is_floating_point() else x.dtype

    def inference(self, module: nn.Module, device: str) -> Infer:
        """Return what one inference calls; ``torch.compile`` compiles it at the first call."""
        # dynamic=False: a second model with other sizes must not turn the kernels into ones for any size.
        infer: Infer = module if self.mode is None else torch.compile(_own_code(module), mode=self.mode, dynamic=False)
        if not self.autocast:
            return infer
        autocast: Callable[[Infer], Infer] = torch.autocast(device, DTYPES[self.precision])
        return autocast(infer)


def _own_code(module: nn.Module) -> Infer:
    """Return a function that calls the module, with a code object of its own.

    ``torch.compile`` keeps what it compiled by code object, at most eight times, and then runs everything eagerly with
    no more than a log line. All architectures of a search space share the code of one ``forward``.
    """

    def infer(*inputs: Tensor) -> Any:
        return module(*inputs)

    return types.FunctionType(infer.__code__.replace(), infer.__globals__, infer.__name__, None, infer.__closure__)

"""A whole backend in one file: a chip on which every FLOP takes a tenth of a nanosecond, whatever the operator.

Latency without hardware is what a search uses when it counts FLOPs. Profile it to see how far that is from the truth.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from latbench.backend import CompileOptions, Device, check_options
from latbench.errors import UsageError
from latbench.model import Model
from latbench.tracing.operators import operators

SECONDS_PER_FLOP = 1e-10


class FlopsBackend:
    """Counts instead of running."""

    name: ClassVar[str] = "flops"

    def device(self) -> Device:
        """Return the chip that does not exist."""
        return Device(name="10 GFLOP/s", kind="imagined")

    def compile(self, model: Model, options: CompileOptions) -> CompiledFlops:
        """Count the FLOPs of the model.

        Raises:
            UsageError: an option, or another precision than fp32.
        """
        check_options(self.name, options.options, known={})
        if options.precision != "fp32":
            raise UsageError(f"backend 'flops' counts fp32, not {options.precision}: leave --precision out")
        return CompiledFlops(model)


class CompiledFlops:
    """A model whose time is known before it runs."""

    clock = "flops"

    def __init__(self, model: Model) -> None:
        self._model = model
        self._seconds = SECONDS_PER_FLOP * sum(operator.flops for operator in operators(model.module, model.inputs))

    def run(self) -> float:
        """Return the seconds of one inference."""
        return self._seconds

    def outputs(self) -> list[NDArray[Any]]:
        """Return what the module computes."""
        return self._model.reference_outputs()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free nothing."""

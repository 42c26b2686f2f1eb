"""A prepared module with its inputs on a device: what the CPU and the CUDA backend have in common."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile

from latbench.backend import OperatorTime, median_per_run, profiled_runs
from latbench.errors import CompileError, first_line
from latbench.model import Model
from latbench.model.outputs import as_array, tensors_of
from latbench.tracing.quiet import quiet
from latbench_torch.variant import Variant

_MOST_PROFILED_RUNS = 20
"""Torch keeps some kilobytes of every call, and takes longer to sort them than to run the model."""

_COMPILING_RUNS = 3
"""``reduce-overhead`` compiles in the first run, warms up in the second and captures its graph in the third."""


class PreparedModule:
    """A variant of a module, and its inputs, on a device.

    Raises:
        ModelError: the model came as an ONNX file.
        CompileError: ``torch.compile`` fails.
    """

    _math: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered around every inference."""

    def __init__(self, model: Model, variant: Variant, device: str) -> None:
        self._variant = variant
        self._module = variant.moved(model.module, device)
        self._model = model
        self._inputs, others = ([variant.moved_input(x, device) for x in model.tensors()] for _ in range(2))
        for other in others:
            _move_last_digit(other)
        self._in_turns = [self._inputs, others]
        self._infer = variant.inference(self._module, device)
        if variant.mode is not None:
            self._compile_now(model.name)

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs, bfloat16 as float32."""
        self._restore_inputs()
        return [as_array(x) for x in tensors_of(self._computed())]

    def operator_times(self) -> list[OperatorTime]:
        """Profile the operators that the module calls; the shapes of their inputs tell them apart.

        ``torch.compile`` leaves no operators of the module to tell apart.
        """
        if self._variant.mode is not None:
            return []
        start = time.perf_counter()
        self._call()
        if self._on_gpu:
            torch.cuda.synchronize()
        runs = min(_MOST_PROFILED_RUNS, profiled_runs(time.perf_counter() - start))
        microseconds: dict[tuple[str, str], list[float]] = {}
        events: Any = self._profiled(runs, record_shapes=True).events()  # type: ignore[no-untyped-call]
        for event in events:
            took = event.device_time_total if self._on_gpu else event.cpu_time_total
            # Operators called by other operators are part of them, and so are the kernels that they launch, which are
            # events of the GPU; what is not an operator has no namespace.
            is_operator = event.device_type.name == "CPU" and event.cpu_parent is None and "::" in event.name
            if is_operator and took > 0:
                key = event.name.partition("::")[2], ", ".join("x".join(map(str, s)) for s in event.input_shapes if s)
                microseconds.setdefault(key, []).append(took)
        return [
            OperatorTime(kind, shapes, median_per_run(us, runs) * 1e-3, shapes)
            for (kind, shapes), us in microseconds.items()
        ]

    def _call(self) -> Any:
        """Run one untimed inference; on a GPU, launch it."""
        with self._math(), torch.inference_mode():
            return self._infer(*self._inputs)

    def _next_inputs(self) -> list[torch.Tensor]:
        """Return one of two samples, in turns, as new objects; their values differ by the last digit of one number.

        A module that remembers what it made of its last input computes anew, as it does where it is used. One that
        changes its inputs gets copies: scaled a thousand times, numbers overflow, or get so small that they are slow.
        """
        self._in_turns.reverse()
        return [x.clone() if self._model.changes_inputs else x.detach() for x in self._in_turns[0]]

    def _restore_inputs(self) -> None:
        """Undo what a module has changed in its inputs."""
        with torch.inference_mode():
            for mine, sample in zip(self._inputs, self._model.tensors(), strict=True):
                mine.copy_(sample)

    def _computed(self) -> Any:
        """Return what the timed runs compute."""
        return self._call()

    def _compile_now(self, name: str) -> None:
        try:
            # A user cannot mend the deprecations that torch's own modules warn of when they are first imported.
            with quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for _ in range(_COMPILING_RUNS):
                    self._call()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what compilers raise has no other base in common
            raise CompileError(f"torch.compile fails on {name}: {type(error).__name__}: {first_line(error)}") from error

    @property
    def _on_gpu(self) -> bool:
        return self._inputs[0].device.type == "cuda"

    def _profiled(self, runs: int, *, record_shapes: bool = False, profile_memory: bool = False) -> profile:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        with _without_stderr():
            self._call()
            profiler = profile(
                activities=activities,
                record_shapes=record_shapes,
                profile_memory=profile_memory,
                acc_events=True,  # torch 2.11 warns of what it drops between cycles, of which there is one
            )
            with profiler:
                for _ in range(runs):
                    self._call()
                if self._on_gpu:
                    torch.cuda.synchronize()
        return profiler

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the module."""
        del self._module, self._inputs, self._in_turns, self._model, self._infer


def _move_last_digit(x: torch.Tensor) -> None:
    """Change the first number in place by its last digit, if it has a fraction."""
    if x.is_floating_point() and x.numel() and x.element_size() > 1:  # types of one byte do not add
        first = x[(0,) * x.ndim]
        first += torch.finfo(x.dtype).eps * first.abs().clamp(min=1)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Keep off standard error what torch's profiler writes there about itself, bypassing Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

"""A prepared module with its inputs on a device: what the CPU and the CUDA backend have in common."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections import deque
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


_GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, without their whole parts, come near no value twice for long."""

_CHANGED = 8
"""So many numbers of a sample at either end are others in each run."""
_ALIVE = 10_000
"""Inputs of so many runs live on: the next object may have the identity of one that is gone."""


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
        self._in_turns = [self._inputs, others]
        self._ends = [_ends(x) for x in self._inputs]
        self._samples_given = 0
        self._alive: deque[list[torch.Tensor]] = deque(maxlen=_ALIVE)
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
        """Return one of two samples, in turns, as new objects, with other first and last numbers in each call.

        A module that remembers what it made of inputs computes anew, as it does where it is used. One that changes its
        inputs gets copies: scaled a thousand times, numbers overflow, or get so small that they are slow.
        """
        self._in_turns.reverse()
        self._samples_given += 1
        with torch.inference_mode():
            for x, ends in zip(self._in_turns[0], self._ends, strict=True):
                if ends is not None:
                    number = ends[0] + (ends[1] - ends[0]) * (self._samples_given * _GOLDEN % 1)
                    x[(0,) * (x.ndim - 1)][:_CHANGED] = number
                    x[(-1,) * (x.ndim - 1)][-_CHANGED:] = number
        if self._model.changes_inputs:
            return [x.clone() for x in self._in_turns[0]]
        self._alive.append([x.detach() for x in self._in_turns[0]])
        return self._alive[-1]

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
        del self._module, self._inputs, self._in_turns, self._alive, self._model, self._infer


def _ends(x: torch.Tensor) -> tuple[float, float] | None:
    """Return between which values the numbers of a sample may lie; None where they must stay as they are.

    Whole numbers may decide the work, and so may what is not finite. Types of one byte have too few values.
    """
    if not x.is_floating_point() or not x.numel() or x.element_size() == 1 or bool((x == x.round()).all()):
        return None
    low, high = float(x.min()), float(x.max())
    if low == high:
        low, high = sorted((0.5 * high, high))
    return (low, high) if low < high and math.isfinite(low) and math.isfinite(high) else None


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

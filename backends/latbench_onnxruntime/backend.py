"""A session of ONNX Runtime: all graph optimisations, sequential execution, as many threads as asked for."""

from __future__ import annotations

import ctypes
import json
import math
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from latbench.backend import CompileOptions, Device, OperatorTime, check_options, median_per_run, profiled_runs
from latbench.errors import CompileError, ModelError, UsageError
from latbench.model import Model
from latbench.model.onnx_cast import widen_onnx
from latbench.model.onnx_graph import precision_of_graph
from latbench_onnxruntime import providers
from latbench_onnxruntime.threads import SPINNING, Threads

_OPTIMIZATION = {
    # Only "all" may change the memory layout to NCHWc, which makes networks of convolutions about 4 times faster.
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_FALLBACK = ("no", "yes")
_KERNEL = "_kernel_time"
_BLOCKED = "_nchwc"
"""What ONNX Runtime appends to the name of an operator that it has moved to its blocked layout."""

_ERRORS = 3
_BFLOAT16 = 16
"""The number of the type in an ONNX file."""
_BFLOAT16_TENSOR = "tensor(bfloat16)"
onnxruntime.set_default_logger_severity(_ERRORS)
onnxruntime.disable_telemetry_events()


class OnnxRuntimeBackend:
    """ONNX Runtime on one of its execution providers.

    Options: ``provider=cpu|...``, what the installed build has; ``fallback=no|yes``, whether other providers may run
    what that one cannot; ``optimization=all|extended|basic|disabled``; ``spinning=yes|no``, whether threads wait awake
    for the next run. The first value unless given. On a GPU or an NPU, the time is the wall's and includes the
    transfers of inputs and outputs.
    """

    name: ClassVar[str] = "onnxruntime"

    def device(self) -> Device:
        """Return the processor and the version of the runtime."""
        return providers.described(providers.CPU)

    def device_for(self, options: CompileOptions) -> Device:
        """Return what the option ``provider`` chooses.

        Raises:
            UsageError: the installed build has no such provider.
            PluginError: the provider's device cannot be told.
        """
        provider = options.options.get("provider", providers.CPU)
        providers.check_provider(provider)
        return providers.described(provider)

    def compile(self, model: Model, options: CompileOptions) -> CompiledSession:
        """Load the model's ONNX file into a session.

        Raises:
            UsageError: an unknown option or provider, or another precision than fp32.
            ModelError: the model has no sample for one of the file's inputs.
            CompileError: ONNX Runtime refuses the file, or would run it elsewhere than on the provider.
        """
        known = {"provider": (), "fallback": _FALLBACK, "optimization": tuple(_OPTIMIZATION), "spinning": SPINNING}
        check_options(self.name, options.options, known)
        providers.check_provider(options.options.get("provider", providers.CPU))
        if options.precision != "fp32":
            raise UsageError(f"backend {self.name!r} runs fp32, not {options.precision}: leave --precision out")
        on_cpu = options.options.get("provider", providers.CPU) == providers.CPU
        return CpuSession(model, options) if on_cpu else CompiledSession(model, options)


class CompiledSession:
    """A session with its inputs bound. One thread on the CPU is the caller's own: its CPU time is the inference's."""

    def __init__(self, model: Model, options: CompileOptions) -> None:
        self._provider = options.options.get("provider", providers.CPU)
        alone = options.threads == 1 and self._provider == providers.CPU
        self.clock = "thread_cpu" if alone else "wall"
        self._now = time.thread_time_ns if alone else time.perf_counter_ns
        self._model, self._options = model, options  # the binding reads the inputs' memory
        self._threads = Threads(options.threads, options.options.get("spinning", "yes"))
        self._data, self._is_wide = b"" if model.path is not None else model.onnx, False
        session = self._session(self._settings())
        fallback = options.options.get("fallback") == "yes"
        self._flags = providers.check_assignment(session, self._provider, model, fallback=fallback)
        self._run, self._binding = session.run_with_iobinding, _binding(session, model)

    def run(self) -> float:
        """Run one inference and return its seconds."""
        now, run, binding = self._now, self._run, self._binding
        self._threads.take_turn()
        start = now()
        run(binding)
        return (now() - start) * 1e-9

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs, bfloat16 as float32."""
        self._run(self._binding)
        if all(value.data_type() != _BFLOAT16_TENSOR for value in self._binding.get_outputs()):
            outputs: list[NDArray[Any]] = self._binding.copy_outputs_to_cpu()
            return outputs
        return [_array(value) for value in self._binding.get_outputs()]

    def precision(self) -> str:
        """Return what runs: where the provider has no kernels of a type, the runtime casts, without a word, to fp32."""
        if self._model.precision == "fp32" or self._model.path is not None:
            return self._model.precision
        with tempfile.TemporaryDirectory() as folder:
            settings = self._settings()
            settings.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
            self._session(settings)
            return precision_of_graph(onnx.load_model(settings.optimized_model_filepath).graph)

    def flags(self) -> tuple[str, ...]:
        """Return whether other providers than the one asked for run some of the operators."""
        return self._flags

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the session."""
        del self._run, self._binding, self._model

    def _settings(self) -> onnxruntime.SessionOptions:
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = _OPTIMIZATION[self._options.options.get("optimization", "all")]
        self._threads.configure(settings)
        return settings

    def _session(self, settings: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
        # A file of 2 GiB or more does not fit into one message: the runtime opens it, and what lies beside it.
        data = self._data if self._model.path is None else str(self._model.path)
        told = providers.arguments(self._provider, self._options.threads)
        if self._provider != providers.CPU:
            settings.add_session_config_entry(providers.TELL_ASSIGNMENT, "1")
        try:
            chosen = [(providers.installed()[self._provider], told)]
            return onnxruntime.InferenceSession(data, settings, providers=chosen, enable_fallback=False)
        except Exception as error:  # ONNX Runtime's errors share no other base
            if isinstance(data, bytes) and not self._is_wide and "bf16" in self._model.precision:
                self._data, self._is_wide = widen_onnx(data), True
                return self._session(settings)
            raise CompileError(f"ONNX Runtime refuses {self._model.name}: {error}") from error


class CpuSession(CompiledSession):
    """A session on the CPU's own kernels. Other providers fuse operators, and do not time them where they run."""

    def operator_times(self) -> list[OperatorTime]:
        """Profile another session of the same model; a node's name says which operator of the file it comes from."""
        with tempfile.TemporaryDirectory() as folder:
            settings = self._settings()
            settings.enable_profiling = True
            settings.profile_file_prefix = str(Path(folder, "profile"))
            session = self._session(settings)
            binding = _binding(session, self._model)
            session.run_with_iobinding(binding)
            start = time.perf_counter()
            session.run_with_iobinding(binding)
            runs = profiled_runs(time.perf_counter() - start)
            for _ in range(runs):
                session.run_with_iobinding(binding)
            events = json.loads(Path(session.end_profiling()).read_text())
        microseconds: dict[tuple[str, str], list[float]] = {}
        shapes: dict[tuple[str, str], str] = {}
        kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_KERNEL)]
        for event, own in zip(kernels, _own_times(kernels), strict=True):
            key = event["args"]["op_name"], event["name"].removesuffix(_KERNEL)
            microseconds.setdefault(key, []).append(own)
            shapes.setdefault(key, _shapes(event["args"].get("input_type_shape", ())))

        def milliseconds(times: list[float]) -> float:
            return median_per_run(_without_first(times, runs), runs) * 1e-3

        return [
            OperatorTime(*key, milliseconds(times), shapes[key], (key[1].removesuffix(_BLOCKED),))
            for key, times in microseconds.items()
        ]


def _shapes(inputs: Iterable[Mapping[str, Sequence[int]]]) -> str:
    """Return the shapes of an event's inputs, of which each is by its type."""
    return ", ".join("x".join(map(str, shape)) for tensor in inputs for shape in tensor.values() if shape)


def _own_times(events: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the microseconds of each event without those of the events in it: a branch or a loop holds others."""
    own: list[float] = [event["dur"] for event in events]
    holding: list[int] = []
    for index in sorted(range(len(events)), key=lambda each: (events[each]["ts"], -events[each]["dur"])):
        start = events[index]["ts"]
        while holding and events[holding[-1]]["ts"] + events[holding[-1]]["dur"] <= start:
            holding.pop()
        if holding:
            own[holding[-1]] -= events[index]["dur"]
        holding.append(index)
    return own


def _without_first(times: list[float], runs: int) -> list[float]:
    """Return the times of an operator in the last of so many runs, which two others warm up."""
    return times[len(times) - len(times) // (runs + 2) * runs :]


def _binding(session: onnxruntime.InferenceSession, model: Model) -> onnxruntime.IOBinding:
    binding = session.io_binding()
    for value in session.get_inputs():
        if value.name not in model.inputs:
            raise ModelError(
                f"{model.name} has no sample for its input {value.name!r}: give --input {value.name}:SHAPE:DTYPE"
            )
        _bind(binding, value.name, model.inputs[value.name], as_bfloat16=value.type == _BFLOAT16_TENSOR)
    for value in session.get_outputs():
        binding.bind_output(value.name)
    return binding


def _bind(binding: onnxruntime.IOBinding, name: str, sample: NDArray[Any], *, as_bfloat16: bool) -> None:
    if sample.dtype.name != "bfloat16":
        binding.bind_cpu_input(name, sample)
        return
    if not as_bfloat16:
        binding.bind_cpu_input(name, sample.astype(np.float32))
        return
    # NumPy has no such type: the runtime is told what the bits are.
    value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(sample.view(np.uint16), _BFLOAT16)
    binding.bind_ortvalue_input(name, value)


def _array(value: onnxruntime.OrtValue) -> NDArray[Any]:
    """Return the values of an output; those of a type that NumPy lacks are read from memory, and lie on the CPU."""
    if value.data_type() != _BFLOAT16_TENSOR:
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    if 0 in shape:
        return np.zeros(shape, np.float32)
    bits = np.ctypeslib.as_array((ctypes.c_uint16 * math.prod(shape)).from_address(value.data_ptr()))
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(shape)

"""ONNX Runtime on the CPU: all graph optimisations, sequential execution, as many threads as asked for."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import onnxruntime
from numpy.typing import NDArray

from latbench.backend import CompileOptions, Device, OperatorTime, check_options
from latbench.devices.host import cpu_name
from latbench.errors import CompileError, ModelError, UsageError
from latbench.model import Model

_OPTIMIZATION = {
    # Only "all" may change the memory layout to NCHWc, which makes networks of convolutions about 4 times faster.
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_PROFILED_RUNS = 10
_KERNEL = "_kernel_time"
_ERRORS = 3
onnxruntime.set_default_logger_severity(_ERRORS)
onnxruntime.disable_telemetry_events()


class OnnxRuntimeBackend:
    """ONNX Runtime's CPU execution provider. Option: ``optimization``, ``all`` unless given."""

    name: ClassVar[str] = "onnxruntime"

    def device(self) -> Device:
        """Return the processor and the version of the runtime."""
        return Device(cpu_name(), "cpu", {"onnxruntime": onnxruntime.__version__})

    def compile(self, model: Model, options: CompileOptions) -> CompiledSession:
        """Load the model's ONNX file into a session.

        Raises:
            UsageError: an unknown option, or another precision than fp32.
            ModelError: the model has no sample for one of the file's inputs.
            CompileError: ONNX Runtime refuses the file.
        """
        check_options(self.name, options.options, {"optimization": tuple(_OPTIMIZATION)})
        if options.precision != "fp32":
            raise UsageError(f"backend {self.name!r} runs fp32, not {options.precision}: leave --precision out")
        return CompiledSession(model, options)


class CompiledSession:
    """A session with its inputs bound. One thread is the caller's own: its CPU time is what the inference takes."""

    def __init__(self, model: Model, options: CompileOptions) -> None:
        self.clock = "thread_cpu" if options.threads == 1 else "wall"
        self._now = time.thread_time_ns if options.threads == 1 else time.perf_counter_ns
        self._model, self._options = model, options  # the binding reads the inputs' memory
        session = _session(model, _settings(options))
        self._run, self._binding = session.run_with_iobinding, _binding(session, model)

    def run(self) -> float:
        """Run one inference and return its seconds."""
        now, run, binding = self._now, self._run, self._binding
        start = now()
        run(binding)
        return (now() - start) * 1e-9

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs."""
        self._run(self._binding)
        outputs: list[NDArray[Any]] = self._binding.copy_outputs_to_cpu()
        return outputs

    def operator_times(self) -> list[OperatorTime]:
        """Profile another session of the same model; a node's name says which operator of the file it comes from."""
        with tempfile.TemporaryDirectory() as folder:
            settings = _settings(self._options)
            settings.enable_profiling = True
            settings.profile_file_prefix = str(Path(folder, "profile"))
            session = _session(self._model, settings)
            binding = _binding(session, self._model)
            for _ in range(1 + _PROFILED_RUNS):
                session.run_with_iobinding(binding)
            events = json.loads(Path(session.end_profiling()).read_text())
        microseconds: dict[tuple[str, str], list[float]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
                key = event["args"]["op_name"], event["name"].removesuffix(_KERNEL)
                microseconds.setdefault(key, []).append(event["dur"])
        # The first run is a warm-up. A node inside a loop is called several times in each run.
        return [
            OperatorTime(kind, name, sum(times[len(times) // (1 + _PROFILED_RUNS) :]) / _PROFILED_RUNS * 1e-3)
            for (kind, name), times in microseconds.items()
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the session."""
        del self._run, self._binding, self._model


def _settings(options: CompileOptions) -> onnxruntime.SessionOptions:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = _OPTIMIZATION[options.options.get("optimization", "all")]
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # The threads of one model must not spin while another model of the same measuring session is timed.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    return settings


def _session(model: Model, settings: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    data = model.onnx
    try:
        return onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no other base in common
        raise CompileError(f"ONNX Runtime refuses {model.name}: {error}") from error


def _binding(session: onnxruntime.InferenceSession, model: Model) -> onnxruntime.IOBinding:
    binding = session.io_binding()
    for value in session.get_inputs():
        if value.name not in model.inputs:
            raise ModelError(
                f"{model.name} has no sample for its input {value.name!r}: give --input {value.name}:SHAPE:DTYPE"
            )
        binding.bind_cpu_input(value.name, model.inputs[value.name])
    for value in session.get_outputs():
        binding.bind_output(value.name)
    return binding

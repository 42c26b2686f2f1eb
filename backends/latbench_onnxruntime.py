"""ONNX Runtime on the CPU: all graph optimisations, sequential execution, as many threads as asked for."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, ClassVar, Self

import onnxruntime
from numpy.typing import NDArray

from latbench.backend import CompileOptions, Device, check_options
from latbench.errors import CompileError, ModelError, UsageError
from latbench.measure.environment import cpu_name
from latbench.model import Model

_OPTIMIZATION = {
    # Only "all" may change the memory layout to NCHWc, which makes networks of convolutions about 4 times faster.
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
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
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = _OPTIMIZATION[options.options.get("optimization", "all")]
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        # The threads of one session must not spin while another one, of the same measuring session, is timed.
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = onnxruntime.InferenceSession(model.onnx, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no other base
            raise CompileError(f"ONNX Runtime refuses {model.name}: {error}") from error
        return CompiledSession(session, model, options.threads)


class CompiledSession:
    """A session with its inputs bound. One thread is the caller's own: its CPU time is what the inference takes."""

    def __init__(self, session: onnxruntime.InferenceSession, model: Model, threads: int) -> None:
        self.clock = "thread_cpu" if threads == 1 else "wall"
        self._now = time.thread_time_ns if threads == 1 else time.perf_counter_ns
        self._run = session.run_with_iobinding
        self._binding = session.io_binding()
        self._inputs = model.inputs  # the binding reads their memory
        for value in session.get_inputs():
            if value.name not in model.inputs:
                raise ModelError(
                    f"{model.name} has no sample for its input {value.name!r}: give --input {value.name}:SHAPE:DTYPE"
                )
            self._binding.bind_cpu_input(value.name, model.inputs[value.name])
        for value in session.get_outputs():
            self._binding.bind_output(value.name)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the session."""
        del self._run, self._binding, self._inputs

"""ONNX Runtime on the CPU: all graph optimisations, sequential execution, as many threads as asked for."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, ClassVar, Self

import onnxruntime
from numpy.typing import NDArray

from latbench.backend import CompileOptions, Device, check_options
from latbench.errors import CompileError, UsageError
from latbench.measure.environment import cpu_name
from latbench.model import Model

_OPTIMIZATIONS = {
    # Only "all" may change the memory layout to NCHWc, which is what makes convolutions fast.
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_ERRORS_ONLY = 3


class OnnxRuntimeBackend:
    """ONNX Runtime's CPU execution provider. Option: ``optimization`` = all, extended, basic or none."""

    name: ClassVar[str] = "onnxruntime"

    def device(self) -> Device:
        """Return the processor and the version of the runtime."""
        return Device(cpu_name(), "cpu", {"onnxruntime": onnxruntime.__version__})

    def compile(self, model: Model, options: CompileOptions) -> CompiledSession:
        """Load the model's ONNX file into a session.

        Raises:
            UsageError: an unknown option, or a precision that the file does not have.
            CompileError: ONNX Runtime refuses the file.
        """
        check_options(self.name, options.options, {"optimization": tuple(_OPTIMIZATIONS)})
        if options.precision != "fp32":
            raise UsageError(f"backend 'onnxruntime' runs fp32, not {options.precision}: leave --precision out")
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = _OPTIMIZATIONS[options.options.get("optimization", "all")]
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = _ERRORS_ONLY
        try:
            session = onnxruntime.InferenceSession(model.onnx, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class
            raise CompileError(f"ONNX Runtime refuses {model.name}: {error}") from error
        return CompiledSession(session, model, options.threads)


class CompiledSession:
    """A session with its inputs. One thread runs in the caller, so its own CPU time is what the inference took."""

    def __init__(self, session: onnxruntime.InferenceSession, model: Model, threads: int) -> None:
        names = [value.name for value in session.get_inputs()]
        self._feed = dict(zip(names, model.inputs.values(), strict=True))
        self._session: onnxruntime.InferenceSession | None = session
        self.clock = "thread_cpu" if threads == 1 else "wall"
        self._now = time.thread_time_ns if threads == 1 else time.perf_counter_ns

    def run(self) -> float:
        """Run one inference and return its seconds."""
        run, feed, now = self._session.run, self._feed, self._now
        start = now()
        run(None, feed)
        return (now() - start) * 1e-9

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs."""
        outputs: list[NDArray[Any]] = self._session.run(None, self._feed)
        return outputs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the session."""
        self._session = None

"""MNN on the CPU: Alibaba's runtime for phones, which converts an ONNX file in some 50 ms."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from latbench.backend import CompileOptions, Device, OperatorTime, check_options
from latbench.devices.host import cpu_name
from latbench.errors import CompileError, MeasurementError, ModelError, UsageError
from latbench.model import Model


@contextmanager
def _captured() -> Iterator[list[str]]:
    """Collect the lines that MNN writes past Python to the output of the process, where ``--json`` has to stand alone.

    The list is filled when the block ends.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        for descriptor in kept:
            os.dup2(file.fileno(), descriptor)
        try:
            yield lines
        finally:
            # What C keeps in its own buffers would come out later, where it does not belong.
            ctypes.CDLL(None).fflush(None)
            for descriptor, copy in kept.items():
                os.dup2(copy, descriptor)
                os.close(copy)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


with _captured():
    import MNN

    # isort: split
    # Not MNN.tools.mnnconvert, the documented way: importing it installs a package and reports each use to its vendor.
    import _tools

_HIGH_PRECISION = 1
"""Of MNN's ``PrecisionMode``: fp32 on processors that could also compute in fp16."""
_MEMORY, _BACKENDS, _THREADS = 0, 2, 4
"""Of MNN's ``SessionInfoCode``."""
_CPU = (0, 13)
"""Of MNN's ``MNNForwardType``: the CPU, and the CPU with the instructions that were found."""
_TYPES: dict[int, tuple[Any, np.dtype[Any]]] = {
    id(kind): (kind, np.dtype(dtype))
    for kind, dtype in (
        (MNN.Halide_Type_Float, "float32"),
        (MNN.Halide_Type_Double, "float64"),
        (MNN.Halide_Type_Int, "int32"),
        (MNN.Halide_Type_Int64, "int64"),
        (MNN.Halide_Type_Uint8, "uint8"),
    )
}
"""MNN's types, which are the same object wherever they are asked for, and NumPy's."""
_FAULT = re.compile(r"error|fail|not support|can't", re.IGNORECASE)
_LOG_PREFIX = re.compile(r"^\[(?:\d\d:){2}\d\d\] \S*:\d+: |^\[ERROR\] ")
_PROFILED_RUNS = 20
_ADDED = re.compile(r"(__matmul_converted)?(_raster_\d+)?$")
"""What MNN appends to the name of an operator of the file that it has changed, or whose input it copies."""


class MnnBackend:
    """MNN's CPU backend, in fp32. It has no options."""

    name: ClassVar[str] = "mnn"

    def device(self) -> Device:
        """Return the processor and the version of the runtime."""
        return Device(cpu_name(), "cpu", {"mnn": MNN.version()})

    def compile(self, model: Model, options: CompileOptions) -> CompiledSession:
        """Convert the model's ONNX file and make a session of it.

        Raises:
            UsageError: an option, another precision than fp32, or more threads than MNN gives.
            ModelError: the model has no sample for one of the file's inputs, or one that MNN has no type for.
            CompileError: MNN cannot convert or prepare the file.
        """
        check_options(self.name, options.options, {})
        if options.precision != "fp32":
            raise UsageError(
                f"backend {self.name!r} runs fp32, not {options.precision}, as MNN does not tell "
                "which precision it runs: leave --precision out"
            )
        return CompiledSession(model, options.threads)


class CompiledSession:
    """A session that holds its inputs. One thread is the caller's own: its CPU time is what the inference takes."""

    def __init__(self, model: Model, threads: int) -> None:
        self.clock = "thread_cpu" if threads == 1 else "wall"
        self._now = time.thread_time_ns if threads == 1 else time.perf_counter_ns
        self._name = model.name
        self._output_names = [value.name for value in onnx.load_model_from_string(model.onnx).graph.output]
        with tempfile.TemporaryDirectory() as folder, _compiling(model):
            self._interpreter = MNN.Interpreter(_converted(model, Path(folder)))
            self._session = self._interpreter.createSession(
                {"backend": "CPU", "precision": _HIGH_PRECISION, "numThread": threads}
            )
            self._samples = self._taken(model.inputs)
            self._infer = self._interpreter.runSession
            self._fill()
            self._check(self._infer(self._session))
        self._check_what_came(threads)

    def run(self) -> float:
        """Run one inference and return its seconds.

        Raises:
            MeasurementError: MNN gives up.
        """
        now, infer, session = self._now, self._infer, self._session
        self._fill()
        start = now()
        code = infer(session)
        seconds = (now() - start) * 1e-9
        self._check(code)
        return seconds

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs."""
        self._fill()
        self._check(self._infer(self._session))
        tensors = self._interpreter.getSessionOutputAll(self._session)
        return [_array(tensors[name]) for name in self._output_names]

    def precision(self) -> str:
        """Return what the session was asked for, whatever the file's weights are."""
        return "fp32"

    def memory_mib(self) -> float:
        """Return the MiB that MNN says the session holds: weights and activations."""
        megabytes: float = self._interpreter.getSessionInfo(self._session, _MEMORY)
        return megabytes

    def operator_times(self) -> list[OperatorTime]:
        """Return the median time of each operator; the call from MNN into Python adds 1 or 2 microseconds to each."""
        milliseconds: dict[tuple[str, str], list[float]] = {}
        started = 0

        def begin(_: Any, operator: Any) -> bool:
            nonlocal started
            started = time.perf_counter_ns()
            return True

        def end(_: Any, operator: Any) -> bool:
            took = (time.perf_counter_ns() - started) * 1e-6
            milliseconds.setdefault((operator.getType(), operator.getName()), []).append(took)
            return True

        for _ in range(_PROFILED_RUNS):
            self._fill()
            self._check(self._interpreter.runSessionWithCallBackInfo(self._session, begin, end))
        return [
            OperatorTime(kind, name, median(times) * len(times) / _PROFILED_RUNS, nodes=(_ADDED.sub("", name),))
            for (kind, name), times in milliseconds.items()
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the session."""
        del self._infer, self._samples, self._session, self._interpreter

    def _taken(self, samples: Mapping[str, NDArray[Any]]) -> list[tuple[Any, Any]]:
        """Give the session the samples' shapes, and return its inputs with the tensors that fill them."""
        interpreter, session = self._interpreter, self._session
        inputs = interpreter.getSessionInputAll(session)
        for name, tensor in inputs.items():
            if name not in samples:
                raise ModelError(f"{self._name} has no sample for its input {name!r}: give --input {name}:SHAPE:DTYPE")
            if tensor.getShape() != samples[name].shape:
                interpreter.resizeTensor(tensor, samples[name].shape)
        interpreter.resizeSession(session)
        return [(tensor, self._sample(name, tensor, samples[name])) for name, tensor in inputs.items()]

    def _sample(self, name: str, tensor: Any, sample: NDArray[Any]) -> Any:
        kind, dtype = _TYPES[id(tensor.getDataType())]
        value = np.array(sample, dtype, order="C")
        if not np.array_equal(value, sample, equal_nan=True):
            raise ModelError(
                f"MNN has {dtype} for the input {name!r} of {self._name}, which does not hold its sample "
                f"of {sample.dtype}: give --input {name}:SHAPE:{dtype}"
            )
        return MNN.Tensor(value.shape, kind, value, MNN.Tensor_DimensionType_Caffe)

    def _fill(self) -> None:
        """Fill the inputs, before every run.

        MNN gives their memory to later operators: a second run would compute with what those left in it, which may be
        values that take longer.
        """
        for tensor, sample in self._samples:
            tensor.copyFrom(sample)

    def _check(self, code: int) -> None:
        if code != 0:
            raise MeasurementError(f"MNN cannot run {self._name}: it gives up with code {code}")

    def _check_what_came(self, threads: int) -> None:
        told = [self._interpreter.getSessionInfo(self._session, what) for what in (_BACKENDS, _THREADS)]
        # The binding reads the number of threads, an integer, as if its bits were those of a float.
        (given,) = struct.unpack("i", struct.pack("f", told[1]))
        if told[0] not in _CPU:
            raise CompileError(f"MNN runs {self._name} on its backend {told[0]} and not on the CPU")
        if given != threads:
            raise UsageError(f"MNN runs {self._name} on {given} threads, not {threads}: give --threads {given}")
        written = self._interpreter.getSessionOutputAll(self._session)
        missing = [name for name in self._output_names if name not in written]
        if missing:
            raise CompileError(f"MNN has left the output {missing[0]!r} of {self._name} out: use another backend")


@contextmanager
def _compiling(model: Model) -> Iterator[None]:
    """Turn what MNN says while it prepares a model into the reason of a failure."""
    failure = None
    with _captured() as lines:
        try:
            yield
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - MNN's binding raises Exception itself
            failure = error
    if failure is not None:
        faults = [_LOG_PREFIX.sub("", line).strip() for line in lines if _FAULT.search(line)]
        raise CompileError(f"MNN refuses {model.name}: {'; '.join(dict.fromkeys(faults)) or failure}") from failure


def _converted(model: Model, folder: Path) -> str:
    """Convert a model and return the file, which does not exist where the converter has failed."""
    source, target = folder / "model.onnx", str(folder / "model.mnn")
    source.write_bytes(model.onnx)
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", target])
    return target


def _array(tensor: Any) -> NDArray[Any]:
    """Copy an output out of the session, in the layout of the ONNX file."""
    kind, dtype = _TYPES[id(tensor.getDataType())]
    shape = tensor.getShape()
    host = MNN.Tensor(shape, kind, np.zeros(shape, dtype), MNN.Tensor_DimensionType_Caffe)
    tensor.copyToHostTensor(host)
    return np.array(host.getNumpyData()).reshape(shape)

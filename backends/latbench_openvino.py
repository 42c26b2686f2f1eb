"""OpenVINO on the CPU: one stream, as many threads as asked for, and the precision that was asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import openvino
from numpy.typing import NDArray

from latbench.backend import CompileOptions, Device, OperatorTime, check_options
from latbench.errors import CompileError, ModelError, UsageError
from latbench.model import Model

_TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_CAPABILITIES = {"fp16": "FP16", "bf16": "BF16"}
"""What the processor must have, by precision: without it, OpenVINO computes in fp32 and says so in no message."""
_CORES = {"any": "ANY_CORE", "performance": "PCORE_ONLY", "efficiency": "ECORE_ONLY"}
_FLOATS = {"f64": "fp64", "f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_PRECISIONS = {**_FLOATS, "i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4"}
_HEAVY = {"Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNCell", "RNNSeq", "ScaledDotProductAttention"}
_NO_WORK = {"Const", "Convert", "Input", "Output", "Reorder"}
_PROFILED_RUNS = 50
_SHOWN_NODES = 3


class OpenVinoBackend:
    """OpenVINO's CPU plug-in, with the performance hint for latency.

    Option: ``cores=any|performance|efficiency``, for processors that have cores of both kinds.
    """

    name: ClassVar[str] = "openvino"

    def __init__(self) -> None:
        self._core = openvino.Core()

    def device(self) -> Device:
        """Return the processor, the version of the runtime, and the precisions that it finds the processor to have."""
        facts = {"openvino": openvino.get_version(), "capabilities": ", ".join(sorted(self._capabilities()))}
        return Device(self._core.get_property("CPU", "FULL_DEVICE_NAME"), "cpu", facts)

    def compile(self, model: Model, options: CompileOptions) -> CompiledRequest:
        """Compile the model's ONNX file, and read back what the runtime makes of the options.

        int8 runs what a file's QuantizeLinear and DequantizeLinear nodes say; the other operators run in fp32.

        Raises:
            UsageError: an unknown option, or a precision, threads or cores that the processor does not have.
            ModelError: the model has no sample for one of the file's inputs.
            CompileError: OpenVINO refuses the file, or compiles it in another precision.
        """
        check_options(self.name, options.options, {"cores": tuple(_CORES)})
        self._check_precision(options.precision)
        settings = {
            "INFERENCE_PRECISION_HINT": _TYPES.get(options.precision, "f32"),
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "SCHEDULING_CORE_TYPE": _CORES[options.options.get("cores", "any")],
        }
        compiled = _compiled(self._core, model, settings)
        _check_what_came(compiled, model, options)
        return CompiledRequest(self._core, model, compiled, settings, options.precision)

    def _capabilities(self) -> list[str]:
        capabilities: list[str] = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return capabilities

    def _check_precision(self, precision: str) -> None:
        if precision not in (*_TYPES, "int8"):
            raise UsageError(
                f"backend {self.name!r} has no precision {precision}: choose one of {', '.join(_TYPES)}, int8"
            )
        needed = _CAPABILITIES.get(precision)
        if needed and needed not in self._capabilities():
            raise UsageError(
                f"this processor has no {precision} for OpenVINO, which would run fp32 instead: leave --precision out"
            )


class CompiledRequest:
    """A compiled model with one request that holds its inputs. One thread is the caller's own."""

    def __init__(self, core: Any, model: Model, compiled: Any, settings: dict[str, Any], precision: str) -> None:
        self._precision = precision
        one = settings["INFERENCE_NUM_THREADS"] == 1
        self.clock = "thread_cpu" if one else "wall"
        self._now = time.thread_time_ns if one else time.perf_counter_ns
        self._core, self._model, self._settings = core, model, settings
        self._inputs = {name: np.asarray(value, order="C") for name, value in model.inputs.items()}
        self._request = _request(compiled, model, self._inputs)
        self._infer = self._request.infer

    def run(self) -> float:
        """Run one inference and return its seconds."""
        now, infer = self._now, self._infer
        start = now()
        infer()
        return (now() - start) * 1e-9

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs."""
        self._infer()
        return [np.array(tensor.data) for tensor in self._request.output_tensors]

    def precision(self) -> str:
        """Return what was asked for: `_check_what_came` has refused another."""
        return self._precision

    def operator_times(self) -> list[OperatorTime]:
        """Profile another compilation of the same model; OpenVINO counts whole microseconds, the mean of all runs."""
        profiled = _compiled(self._core, self._model, {**self._settings, "PERF_COUNT": True})
        request = _request(profiled, self._model, self._inputs)
        for _ in range(_PROFILED_RUNS):
            request.infer()
        told = {node.get_friendly_name(): node for node in profiled.get_runtime_model().get_ordered_ops()}
        return [
            OperatorTime(
                node.node_type,
                node.node_name,
                node.real_time.total_seconds() * 1e3,
                *_shapes_and_nodes(told.get(node.node_name)),
            )
            for node in request.profiling_info
            if node.status == openvino.ProfilingInfo.Status.EXECUTED
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the request and what it runs."""
        del self._infer, self._request, self._inputs, self._model


def _shapes_and_nodes(operator: Any) -> tuple[str, tuple[str, ...]]:
    """Return the shapes of an operator's inputs, and the names of what it has been in the model's file."""
    if operator is None:
        return "", ()
    shapes = (port.get_partial_shape() for port in operator.inputs())
    names = operator.get_rt_info()["originalLayersNames"].astype(str)
    texts = ["x".join(map(str, shape.to_shape())) for shape in shapes if shape.is_static and shape.rank.get_length()]
    return ", ".join(texts), tuple(name for name in names.split(",") if name)


def _compiled(core: Any, model: Model, settings: dict[str, Any]) -> Any:
    data = model.onnx
    try:
        return core.compile_model(core.read_model(data), "CPU", settings)
    except RuntimeError as error:
        raise CompileError(f"OpenVINO refuses {model.name}: {_words(str(error))}") from error


def _request(compiled: Any, model: Model, inputs: dict[str, NDArray[Any]]) -> Any:
    request = compiled.create_infer_request()
    for port in compiled.inputs:
        name = next((name for name in port.names if name in inputs), None)
        if name is None:
            missing = port.get_any_name()
            raise ModelError(
                f"{model.name} has no sample for its input {missing!r}: give --input {missing}:SHAPE:DTYPE"
            )
        try:
            # The request reads the sample where it is, so whoever holds the request holds the samples, too.
            request.set_tensor(port, openvino.Tensor(inputs[name], shared_memory=True))
        except RuntimeError as error:
            raise ModelError(f"the sample of {name!r} does not fit {model.name}: {_words(str(error))}") from error
    return request


def _check_what_came(compiled: Any, model: Model, options: CompileOptions) -> None:
    """Refuse what OpenVINO leaves out without a word: threads, cores and a precision that it does not have."""
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    if threads != options.threads:
        raise UsageError(
            f"OpenVINO runs {model.name} on {threads} threads, not {options.threads}: give --threads {threads}"
        )
    cores = options.options.get("cores", "any")
    if compiled.get_property("SCHEDULING_CORE_TYPE").name != _CORES[cores]:
        raise UsageError(f"this processor has no {cores} cores that OpenVINO tells apart: leave --option cores out")
    ran = dict(_precisions(compiled))
    allowed = {"int8": {"int8", "fp32"}, "fp32": {"fp32", "fp64"}}.get(options.precision, {options.precision, "fp32"})
    others = [f"{node} ({precision})" for node, precision in ran.items() if precision not in allowed]
    if others:
        more = f" and {len(others) - _SHOWN_NODES} more" if len(others) > _SHOWN_NODES else ""
        raise CompileError(
            f"OpenVINO has not compiled {model.name} in {options.precision}: {', '.join(others[:_SHOWN_NODES])}{more}: "
            "ask for the precision that runs"
        )
    if ran and options.precision not in ran.values() and options.precision != "fp32":
        raise CompileError(f"OpenVINO runs nothing of {model.name} in {options.precision}: leave --precision out")


def _precisions(compiled: Any) -> Iterator[tuple[str, str]]:
    """Yield the nodes that take the time, and the precision that each computes in.

    Those are convolutions and products of matrices; only a model without any is told by its other nodes, as
    comparisons and shapes are computed in bytes and integers whatever the precision.
    """
    nodes = [
        (node.get_friendly_name(), facts["layerType"].value, facts["runtimePrecision"].value)
        for node in compiled.get_runtime_model().get_ops()
        if "runtimePrecision" in (facts := node.get_rt_info())
    ]
    heavy = [(name, precision) for name, kind, precision in nodes if kind in _HEAVY]
    floats = [(name, p) for name, kind, p in nodes if kind not in _NO_WORK and p in _FLOATS]
    for name, precision in heavy or floats:
        yield name, _PRECISIONS.get(precision, precision)


def _words(message: str) -> str:
    """Return an error's message without the places in OpenVINO's sources that it passed."""
    lines = [line.strip() for line in message.splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "Summary:"))]
    return " ".join(said) or "no reason given"

"""Build an engine from a model. TensorRT-RTX needs no GPU for that; TensorRT needs the one that the engine is for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import onnx

from latbench.backend import CompileOptions
from latbench.errors import CompileError, ModelError, UsageError
from latbench.model import Model
from latbench.model.onnx_cast import PRECISIONS as CASTS
from latbench.model.onnx_cast import cast_onnx
from latbench_tensorrt.caching import SharedCache, warn
from latbench_tensorrt.engine import Engine, Layer, logged_layers, other_precision
from latbench_tensorrt.library import Library, load_library
from latbench_tensorrt.settings import Settings

CURRENT = "current"
_SHOWN_ERRORS = 3
_SHOWN_LAYERS = 3


def build_engine(model: Model, options: CompileOptions, *, capability: str = "") -> Engine:
    """Build an engine; TensorRT-RTX does so without a GPU.

    Args:
        model: measured with these inputs; a free dimension is fixed to that of its sample.
        options: as for `latbench_tensorrt.TensorRtBackend`; what concerns running is ignored.
        capability: of the GPU that TensorRT-RTX builds for: ``"8.6"``, ``"current"`` for the one that is here; empty
            for all that it supports from Ampere on. TensorRT builds for the one that is here.

    Raises:
        UsageError: an unknown option or precision, or int8 for a file without Q/DQ nodes.
        CompileError: an operator is not supported, the library cannot build the network, or has built it in another
            precision.
    """
    settings = Settings.parse(options)
    return build(load_library(settings.runtime), model, settings, capability)


def build(
    library: Library, model: Model, settings: Settings, capability: str = "", timings: SharedCache | None = None
) -> Engine:
    """Build an engine with a library and the kernel timings that engines share; see `build_engine`."""
    start = time.perf_counter()
    operators = operators_of(model)
    data = _in_precision(model, settings.precision, operators)
    trt, log = library.trt, library.log
    log.clear()
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # what the bindings raise for a null pointer
        raise CompileError(f"{library} cannot build: {log.words()}") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)  # holds the weights until the engine is built
    if not parser.parse(data):
        raise CompileError(f"{library} cannot parse {model.name}: {_parser_errors(parser)}")
    config = _configured(library, builder.create_builder_config(), settings, capability)
    _fix_shapes(builder, network, config, model)
    if timings is not None:
        _use_timings(config, timings)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise CompileError(f"{library} cannot build {model.name}: {log.words()}")
    if timings is not None and not timings.frozen:
        timings.add(bytes(config.get_timing_cache().serialize()))
    layers = logged_layers(log.layers)
    check_precision(library, model, layers, operators, settings.precision)
    return Engine(bytes(built), layers, settings.precision, (time.perf_counter() - start) * 1e3)


def check_precision(
    library: Library, model: Model, layers: tuple[Layer, ...], operators: Mapping[str, str], precision: str
) -> None:
    """Refuse an engine of another precision than the one asked for.

    Raises:
        CompileError: the message names the layers.
    """
    others = other_precision(layers, operators, precision)
    if others:
        shown = [f"{layer.name} ({'/'.join(layer.precisions)})" for layer in others[:_SHOWN_LAYERS]]
        more = f" and {len(others) - _SHOWN_LAYERS} more" if len(others) > _SHOWN_LAYERS else ""
        raise CompileError(
            f"{library} has not built {model.name} in {precision}: {', '.join(shown)}{more}: "
            "ask for the precision that the file has, or give a file in this one"
        )


def operators_of(model: Model) -> dict[str, str]:
    """Return the operators of a model's ONNX file by the name of their node."""
    graph = onnx.load_model_from_string(model.onnx).graph
    # The parser names a node without name after what it writes.
    return {node.name or f"node_of_{node.output[0]}": node.op_type for node in graph.node}


def _in_precision(model: Model, precision: str, operators: Mapping[str, str]) -> bytes:
    if precision == "int8" and not {"QuantizeLinear", "DequantizeLinear"} & set(operators.values()):
        raise UsageError(
            f"{model.name} has no QuantizeLinear and DequantizeLinear nodes, which int8 needs: "
            "quantise it first, e.g. with onnxruntime.quantization in the format QDQ"
        )
    return cast_onnx(model.onnx, precision) if precision in CASTS else model.onnx


def _configured(library: Library, config: Any, settings: Settings, capability: str) -> Any:
    trt = library.trt
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = settings.optimization_level
    if settings.precision == "tf32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib * 2**20)
    if library.is_rtx and capability:
        known = {name: value for name, value in trt.ComputeCapability.__members__.items() if name != "NONE"}
        name = capability.upper() if capability == CURRENT else "SM" + capability.replace(".", "")
        if name not in known:
            raise UsageError(
                f"{library} cannot build for compute capability {capability}: choose one of {', '.join(known)}"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(known[name], 0)
    return config


def _use_timings(config: Any, timings: SharedCache) -> None:
    cache = config.create_timing_cache(timings.data)
    if cache is None or not config.set_timing_cache(cache, False):
        warn("the library refuses the shared timing cache: this build times its kernels again")
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _fix_shapes(builder: Any, network: Any, config: Any, model: Model) -> None:
    """Give every free dimension its size in the samples, so that kernels are chosen for it."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        if tensor.name not in model.inputs:
            raise ModelError(
                f"{model.name} has no sample for its input {tensor.name!r}: give --input {tensor.name}:SHAPE:DTYPE"
            )
        if -1 in tensor.shape:
            shape = model.inputs[tensor.name].shape
            profile.set_shape(tensor.name, shape, shape, shape)
    if any(-1 in tensor.shape for tensor in inputs):
        config.add_optimization_profile(profile)


def _parser_errors(parser: Any) -> str:
    errors = dict.fromkeys(_told(parser.get_error(i)) for i in range(parser.num_errors))
    return "; ".join(list(errors)[:_SHOWN_ERRORS]) + ": replace the operator, or measure on another backend"


def _told(error: Any) -> str:
    reason = f"{error.code().name}, {error.desc()}"
    if not error.node_operator():
        return reason
    return f"operator {error.node_operator()!r} of node {error.node_name() or error.node()!r} ({reason})"

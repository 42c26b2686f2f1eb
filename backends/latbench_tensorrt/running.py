"""One inference of an engine on the GPU. Memory, streams, events and graphs are torch's."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from numpy.typing import NDArray

from latbench.backend import OperatorTime
from latbench.devices import nvml
from latbench.errors import CompileError, MeasurementError, OutOfMemoryError
from latbench.model import Model
from latbench_tensorrt.caching import SharedCache, warn
from latbench_tensorrt.engine import LoadedEngine, is_mixed
from latbench_tensorrt.library import Library
from latbench_tensorrt.settings import Settings
from latbench_tensorrt.tensors import Tensors

_PROFILED_RUNS = 10


class CompiledEngine:
    """An engine with its inputs on the GPU.

    Args:
        library: that built it.
        model: what it computes.
        loaded: the engine.
        settings: how it runs.
        kernels: what TensorRT-RTX has compiled for other engines; None for TensorRT.
    """

    def __init__(
        self, library: Library, model: Model, loaded: LoadedEngine, settings: Settings, kernels: SharedCache | None
    ) -> None:
        self.clock = "cuda_events" if settings.time == "gpu" else "wall"
        self._library, self._loaded, self._settings = library, loaded, settings
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        rtx = None if kernels is None else _RtxRuntime(library, loaded.native, settings, kernels)
        self._context = self._new_context() if rtx is None else self._new_context(rtx.config)
        self._tensors = Tensors(library, model, loaded.native, self._context)
        with torch.cuda.stream(self._stream):
            self._tensors.copy_in()
            self._enqueue()  # allocates and compiles now, so that neither later calls nor a capture have to
            self._stream.synchronize()
            # TensorRT-RTX replays a graph of its own.
            captures = settings.launch == "graph" and rtx is None
            self._launch: Callable[[], None] = self._captured() if captures else self._enqueue
        if rtx is not None:
            rtx.share()
        copy_in, copy_out = self._tensors.copy_in, self._tensors.copy_out
        self._steps = {
            "no": [self._launch],
            "yes": [copy_in, self._launch, copy_out],
            "only": [copy_in, copy_out],
        }[settings.transfers]

    def run(self) -> float:
        """Run one inference to completion and return its seconds."""
        with torch.cuda.stream(self._stream):
            if self.clock == "wall":
                began = time.perf_counter_ns()
                self._take_steps()
                self._stream.synchronize()
                return (time.perf_counter_ns() - began) * 1e-9
            self._start.record()
            self._take_steps()
            self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e-3

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs, the floating-point ones as float32."""
        with torch.cuda.stream(self._stream):
            self._tensors.copy_in()
            self._launch()
            self._tensors.copy_out()
            self._stream.synchronize()
        return [(x.float() if x.is_floating_point() else x).numpy().copy() for x in self._tensors.outputs]

    def flush_cache(self) -> None:
        """Overwrite the L2 cache."""
        size = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        with torch.cuda.stream(self._stream):
            torch.zeros(2 * size, dtype=torch.uint8, device="cuda")
            self._stream.synchronize()

    def memory_mib(self) -> float:
        """Return the MiB that the library reports for weights and activations, plus those of inputs and outputs."""
        trt, native = self._library.trt, self._loaded.native
        # Versions that do not report the weights alone hold at most the whole engine.
        stat = getattr(trt, "EngineStat", None)
        weights = native.get_engine_stat(stat.TOTAL_WEIGHTS_SIZE) if stat else len(self._loaded.engine.data)
        is_new = hasattr(native, "device_memory_size_v2")
        activations = native.device_memory_size_v2 if is_new else native.device_memory_size
        return float(weights + activations + self._tensors.nbytes) / 2**20

    def operator_times(self) -> list[OperatorTime]:
        """Profile the layers in another context; the ONNX operators that a layer computes are its type."""
        milliseconds: dict[str, float] = {}

        class Profiler(self._library.trt.IProfiler):  # type: ignore[misc, name-defined]
            def report_layer_time(self, layer_name: str, ms: float) -> None:
                milliseconds[layer_name] = milliseconds.get(layer_name, 0.0) + ms

        context, profiler = self._new_context(), Profiler()
        self._tensors.bind(context)
        with torch.cuda.stream(self._stream):
            self._enqueue(context)
            self._stream.synchronize()
            context.profiler = profiler
            for _ in range(_PROFILED_RUNS):
                self._enqueue(context)
                self._stream.synchronize()
        return [
            OperatorTime(self._loaded.kind(name), name, ms / _PROFILED_RUNS, nodes=self._loaded.nodes(name))
            for name, ms in milliseconds.items()
        ]

    def flags(self) -> list[str]:
        """Return the flags that apply to the engine.

        ``cached-engine``: compile_ms has no building in it; ``mixed-precision``: some layers stay in fp32;
        ``precision-unseen``: the inspector gives no layer's types; ``shared-gpu``: another process computes on
        the GPU.
        """
        layers, precision = self._loaded.layers, self._settings.precision
        told = {
            "cached-engine": self._loaded.engine.cached,
            "mixed-precision": is_mixed(layers, precision),
            "precision-unseen": not any(layer.precisions for layer in layers),
            "shared-gpu": bool(nvml.other_processes(nvml.current_uuid())),
        }
        return [flag for flag, applies in told.items() if applies]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine and its memory."""
        del self._steps, self._launch, self._context, self._loaded, self._tensors

    def _take_steps(self) -> None:
        for step in self._steps:
            step()

    def _captured(self) -> Callable[[], None]:
        """Capture a launch of the engine, and return what replays it."""
        graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads do meanwhile does not spoil the capture.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._enqueue()
        return graph.replay

    def _enqueue(self, context: Any = None) -> None:
        if not (context or self._context).execute_async_v3(self._stream.cuda_stream):
            raise MeasurementError(f"{self._library} cannot run the engine: {self._library.log.words()}")

    def _new_context(self, *config: Any) -> Any:
        log = self._library.log
        log.clear()
        context = self._loaded.native.create_execution_context(*config)
        if context is None:
            kind = OutOfMemoryError if "outofmemory" in log.words().replace(" ", "").lower() else CompileError
            raise kind(f"{self._library} cannot make a context of the engine: {log.words()}")
        return context


class _RtxRuntime:
    """How TensorRT-RTX runs an engine: its own CUDA graph, and the kernels that it compiles on the GPU."""

    def __init__(self, library: Library, native: Any, settings: Settings, kernels: SharedCache) -> None:
        self._shared = kernels
        self.config = native.create_runtime_config()
        if settings.launch == "graph":
            self.config.cuda_graph_strategy = library.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._compiled = self.config.create_runtime_cache()
        if kernels.data and not self._compiled.deserialize(kernels.data):
            warn(f"{library} refuses the kernels that it compiled before: it compiles them again")
        self.config.set_runtime_cache(self._compiled)

    def share(self) -> None:
        """Pass what has been compiled on to later engines."""
        if not self._shared.frozen:
            self._shared.add(bytes(self._compiled.serialize()))

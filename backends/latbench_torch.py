"""PyTorch eager: the module as it is, on the CPU or on a CUDA GPU."""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import nn
from torch.profiler import ProfilerActivity, profile

from latbench.backend import CompileOptions, Device, OperatorTime, check_options
from latbench.errors import PluginError, UsageError
from latbench.measure.environment import cpu_name
from latbench.model import Model, tensors_of

_PROFILED_RUNS = 5
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class CpuBackend:
    """PyTorch eager on the CPU."""

    name: ClassVar[str] = "cpu"

    def device(self) -> Device:
        """Return the processor and the instructions that torch uses of it."""
        facts = {"torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability()}
        return Device(cpu_name(), "cpu", facts)

    def compile(self, model: Model, options: CompileOptions) -> CpuModule:
        """Cast the module.

        Raises:
            UsageError: an option, or an unknown precision.
            ModelError: the model came as an ONNX file.
        """
        check_options(self.name, options.options, known={})
        return CpuModule(self.name, model, options, "cpu")


class CudaBackend:
    """PyTorch eager on the current CUDA device."""

    name: ClassVar[str] = "cuda"

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a CPU build"
            raise PluginError(
                "backend 'cuda' needs a CUDA device: torch.cuda.is_available() is False "
                f"(torch {torch.__version__} {build}): install one for your driver, see https://pytorch.org/get-started"
            )

    def device(self) -> Device:
        """Return the GPU and the versions that a latency depends on."""
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        facts = {
            "uuid": str(gpu.uuid),
            "capability": f"{gpu.major}.{gpu.minor}",
            "memory_mib": gpu.total_memory // 2**20,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
        return Device(gpu.name, "cuda", facts)

    def compile(self, model: Model, options: CompileOptions) -> CudaModule:
        """Cast the module and move it to the GPU.

        Raises:
            UsageError: an option, or an unknown precision.
            ModelError: the model came as an ONNX file.
        """
        check_options(self.name, options.options, known={})
        return CudaModule(self.name, model, options, "cuda")


class _CompiledModule:
    """A module and its inputs on a device."""

    def __init__(self, backend: str, model: Model, options: CompileOptions, device: str) -> None:
        dtype = _DTYPES.get(options.precision)
        if dtype is None:
            raise UsageError(f"backend {backend!r} runs {', '.join(_DTYPES)}, not {options.precision}")
        self._module = _moved(model.module, device, dtype)
        inputs = map(torch.from_numpy, model.inputs.values())
        self._inputs = [x.to(device, dtype if x.is_floating_point() else x.dtype) for x in inputs]

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs, the floating-point ones as float32."""
        with torch.inference_mode():
            result = self._module(*self._inputs)
        return [(x.float() if x.is_floating_point() else x).cpu().numpy() for x in tensors_of(result)]

    def operator_times(self) -> list[OperatorTime]:
        """Profile the operators that the module calls; the shapes of their inputs tell them apart."""
        microseconds: dict[tuple[str, str], float] = {}
        events: Any = self._profiled(_PROFILED_RUNS, record_shapes=True).events()  # type: ignore[no-untyped-call]
        for event in events:
            took = event.device_time_total if self._on_gpu else event.cpu_time_total
            # Operators that other operators call are part of them; what is no operator has no namespace.
            if event.cpu_parent is None and "::" in event.name and took > 0:
                key = event.name.partition("::")[2], ", ".join("x".join(map(str, s)) for s in event.input_shapes if s)
                microseconds[key] = microseconds.get(key, 0.0) + took
        return [OperatorTime(kind, shapes, us / _PROFILED_RUNS * 1e-3) for (kind, shapes), us in microseconds.items()]

    @property
    def _on_gpu(self) -> bool:
        return self._inputs[0].device.type == "cuda"

    def _profiled(self, runs: int, *, record_shapes: bool = False, profile_memory: bool = False) -> profile:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        with torch.inference_mode(), _without_stderr():
            self._module(*self._inputs)
            profiler = profile(activities=activities, record_shapes=record_shapes, profile_memory=profile_memory)
            with profiler:
                for _ in range(runs):
                    self._module(*self._inputs)
                if self._on_gpu:
                    torch.cuda.synchronize()
        return profiler

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the module."""
        del self._module, self._inputs


class CpuModule(_CompiledModule):
    """A module on the CPU. One thread is the caller's own: its CPU time is what the inference takes."""

    def __init__(self, backend: str, model: Model, options: CompileOptions, device: str) -> None:
        super().__init__(backend, model, options, device)
        self.clock = "thread_cpu" if options.threads == 1 else "wall"
        self._now = time.thread_time_ns if options.threads == 1 else time.perf_counter_ns
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(options.threads)

    def run(self) -> float:
        """Run one inference and return its seconds."""
        module, inputs, now = self._module, self._inputs, self._now
        with torch.inference_mode():
            start = now()
            module(*inputs)
            return (now() - start) * 1e-9

    def memory_mib(self) -> float:
        """Return the MiB of weights and inputs, and the most that torch's allocator gave out during an inference."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "trace.json")
            self._profiled(1, profile_memory=True).export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        allocations = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
        peak: int = max(accumulate((size for _, size in allocations), initial=0))
        return (peak + _held_bytes(self._module, self._inputs)) / 2**20

    def __exit__(self, *error: Any) -> None:
        """Free the module and give torch its threads back."""
        super().__exit__(*error)
        torch.set_num_threads(self._threads_before)


class CudaModule(_CompiledModule):
    """A module on the GPU, timed by events before and after it on its stream."""

    clock = "cuda_events"

    def __init__(self, backend: str, model: Model, options: CompileOptions, device: str) -> None:
        self._before = torch.cuda.memory_allocated()
        super().__init__(backend, model, options, device)
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def run(self) -> float:
        """Run one inference to completion and return its seconds."""
        module, inputs = self._module, self._inputs
        with torch.inference_mode():
            self._start.record()
            module(*inputs)
            self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e-3

    def memory_mib(self) -> float:
        """Return the most MiB that torch's allocator gave out during an inference, weights and inputs included.

        Other models that were compiled after this one count too.
        """
        torch.cuda.reset_peak_memory_stats()
        self.run()
        return (torch.cuda.max_memory_allocated() - self._before) / 2**20


def _held_bytes(module: nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    tensors = chain(module.parameters(), module.buffers(), inputs)
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Keep off the standard error what torch's profiler writes there about itself, past Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _moved(module: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    tensors = chain(module.parameters(), module.buffers())
    if all(x.device.type == device and (x.dtype == dtype or not x.is_floating_point()) for x in tensors):
        return module
    # Module.to works in place, and the model's own module is what outputs are compared with.
    return copy.deepcopy(module).to(device, dtype)

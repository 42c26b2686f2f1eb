"""PyTorch eager: the module as it is, on the CPU or on a CUDA GPU."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.backend import CompileOptions, Device, check_options
from latbench.errors import PluginError, UsageError
from latbench.measure.environment import cpu_name
from latbench.model import Model

_PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class CpuBackend:
    """PyTorch eager on the CPU."""

    name: ClassVar[str] = "cpu"

    def device(self) -> Device:
        """Return the processor and what torch makes of it."""
        capability = torch.backends.cpu.get_cpu_capability()
        return Device(cpu_name(), "cpu", {"torch": torch.__version__, "instructions": capability})

    def compile(self, model: Model, options: CompileOptions) -> CompiledModule:
        """Cast the module.

        Raises:
            UsageError: an option, or an unknown precision.
            ModelError: the model came as an ONNX file.
        """
        check_options(self.name, options.options, known={})
        torch.set_num_threads(options.threads)
        # One thread runs in the caller, so its own CPU time is what the inference took.
        clock = "thread_cpu" if options.threads == 1 else "wall"
        now = time.thread_time_ns if options.threads == 1 else time.perf_counter_ns

        def timed(run: Callable[[], object]) -> float:
            start = now()
            run()
            return (now() - start) * 1e-9

        return CompiledModule(model, options, "cpu", clock, timed, self.name)


class CudaBackend:
    """PyTorch eager on the current CUDA device, timed by events on its stream."""

    name: ClassVar[str] = "cuda"

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a build without CUDA"
            raise PluginError(
                f"backend 'cuda' needs a CUDA GPU that torch can use, and torch {torch.__version__} {build}: "
                "see https://pytorch.org for a build that fits the driver"
            )

    def device(self) -> Device:
        """Return the GPU, its UUID and the versions that a latency depends on."""
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        facts = {"uuid": str(gpu.uuid), "memory_mib": gpu.total_memory // 2**20, "capability": f"{gpu.major}.{gpu.minor}"}
        versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        return Device(gpu.name, "cuda", {**facts, **versions})

    def compile(self, model: Model, options: CompileOptions) -> CompiledModule:
        """Cast the module and move it to the GPU.

        Raises:
            UsageError: an option, or an unknown precision.
            ModelError: the model came as an ONNX file.
        """
        check_options(self.name, options.options, known={})
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def timed(run: Callable[[], object]) -> float:
            start.record()
            run()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) * 1e-3

        return CompiledModule(model, options, "cuda", "cuda_events", timed, self.name)


class CompiledModule:
    """A module with its inputs on a device."""

    def __init__(
        self,
        model: Model,
        options: CompileOptions,
        device: str,
        clock: str,
        timed: Callable[[Callable[[], object]], float],
        backend: str,
    ) -> None:
        if options.precision not in _PRECISIONS:
            raise UsageError(f"backend {backend!r} runs {', '.join(_PRECISIONS)}, not {options.precision}")
        dtype = _PRECISIONS[options.precision]
        self.clock = clock
        self._timed = timed
        # Module.to works in place, and the model's own module is what outputs are compared with.
        self._module: nn.Module | None = copy.deepcopy(model.module).to(device, dtype)
        self._inputs = [_moved(torch.from_numpy(value), device, dtype) for value in model.inputs.values()]

    def run(self) -> float:
        """Run one inference and return its seconds."""
        return self._timed(self._forward)

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs."""
        result = self._forward()
        outputs = result if isinstance(result, tuple | list) else [result]
        return [output.float().cpu().numpy() for output in outputs]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the module."""
        self._module = None
        self._inputs = []

    @torch.inference_mode()
    def _forward(self) -> Any:
        return self._module(*self._inputs)  # type: ignore[misc]


def _moved(tensor: Tensor, device: str, dtype: torch.dtype) -> Tensor:
    return tensor.to(device, dtype if tensor.is_floating_point() else None)

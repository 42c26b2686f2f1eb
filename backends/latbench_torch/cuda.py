"""PyTorch on a CUDA GPU."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, ClassVar

import torch

from latbench.backend import CompileOptions, Device, Fact
from latbench.devices import nvml
from latbench.errors import CompileError, OutOfMemoryError, PluginError, UsageError, first_line
from latbench.model import Model
from latbench_torch.graph import Graph, side_stream
from latbench_torch.module import PreparedModule
from latbench_torch.variant import NO_YES, Variant

_MODES = ("default", "reduce-overhead", "max-autotune")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_LAUNCH_BOUND = 0.9
"""If launching takes the host this share of a run's GPU time or more, the GPU mostly waits for launches."""


class CudaBackend:
    """PyTorch on the current CUDA device.

    Options: ``memory_format=as_given|contiguous|channels_last``, ``autocast=no|yes`` (to the precision asked for),
    ``compile=no|default|reduce-overhead|max-autotune`` (the modes of ``torch.compile``) and ``graph=no|yes`` (capture
    one CUDA graph and launch that); the first value is the default. A profile uses all visible GPUs that are equal, and
    ``CUDA_VISIBLE_DEVICES`` chooses among them.
    """

    name: ClassVar[str] = "cuda"

    def __init__(self) -> None:
        if not _availability().usable:
            raise PluginError(_why_not())

    def device(self) -> Device:
        """Return the GPU and what a latency depends on: versions, power limit, and the settings torch keeps for all."""
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        facts = {
            "capability": f"{gpu.major}.{gpu.minor}",
            "memory_mib": gpu.total_memory // 2**20,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            **nvml.facts(str(gpu.uuid)),
        }
        return Device(gpu.name, "cuda", facts, unit=str(gpu.uuid))

    def units(self) -> list[tuple[str, Mapping[str, str]]]:
        """Return the visible GPUs, each with the ``CUDA_VISIBLE_DEVICES`` that leaves it alone visible."""
        count = torch.cuda.device_count()
        given = os.environ.get(_VISIBLE, "").split(",")
        names = given if len(given) == count and all(given) else [str(index) for index in range(count)]
        uuids = (str(torch.cuda.get_device_properties(index).uuid) for index in range(count))
        return [(uuid, {_VISIBLE: name.strip()}) for uuid, name in zip(uuids, names, strict=True)]

    def state(self) -> Mapping[str, Fact]:
        """Return clocks, temperature, power, throttling and other processes, where ``nvidia-ml-py`` is installed."""
        return nvml.state(nvml.current_uuid())

    def compile(self, model: Model, options: CompileOptions) -> CudaModule:
        """Prepare the module on the GPU.

        Raises:
            UsageError: an unknown option, value or precision, or options that exclude each other.
            ModelError: the model came as an ONNX file.
            CompileError: ``torch.compile`` fails, or the module cannot be captured.
            OutOfMemoryError: the GPU's memory does not hold it.
        """
        precisions = ("fp32", "tf32", "fp16", "bf16")
        variant = Variant.parse(self.name, options, precisions=precisions, modes=_MODES, more={"graph": NO_YES})
        graph = options.options.get("graph") == "yes"
        if graph and variant.mode not in (None, "default"):
            raise UsageError(f"compile={variant.mode} already launches CUDA graphs: leave graph=yes out")
        with _memory_error(model.name):
            return CudaModule(model, variant, graph=graph)


class CudaModule(PreparedModule):
    """A module on the GPU, timed by events before and after it on its stream.

    Args:
        model: what is run.
        variant: how.
        graph: whether one CUDA graph is launched instead of the module's kernels one by one.
        device: where.
    """

    clock = "cuda_events"

    def __init__(self, model: Model, variant: Variant, *, graph: bool, device: str = "cuda") -> None:
        self._name = model.name
        _load_cublas()
        self._before = torch.cuda.memory_allocated()
        self._math = partial(_float32_math, tf32=variant.precision == "tf32")
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._runs = self._waiting_runs = 0
        super().__init__(model, variant, device)
        self._graph = self._captured() if graph else None

    def run(self) -> float:
        """Run one inference to completion and return its seconds.

        Raises:
            OutOfMemoryError: the GPU's memory does not hold it.
        """
        start, end = self._start, self._end
        with _memory_error(self._name), self._math(), torch.inference_mode():
            launch = self._graph.launch if self._graph else partial(self._infer, *self._next_inputs())
            start.record()
            begin = time.perf_counter()
            launch()
            launching = time.perf_counter() - begin
            end.record()
            end.synchronize()
        seconds = float(start.elapsed_time(end)) * 1e-3
        self._runs += 1
        self._waiting_runs += launching >= _LAUNCH_BOUND * seconds
        return seconds

    def flush_cache(self) -> None:
        """Overwrite the whole L2 cache, and wait until that is done."""
        _flush_buffer().zero_()
        torch.cuda.synchronize()

    def flags(self) -> list[str]:
        """Return ``launch-bound`` where the GPU waited for most runs to be launched, ``shared-gpu`` where it is shared.

        The launches of a CUDA graph are the device's own.
        """
        launch_bound = self._graph is None and 2 * self._waiting_runs > self._runs
        shared = bool(nvml.other_processes(nvml.current_uuid()))
        return [flag for flag, raised in (("launch-bound", launch_bound), ("shared-gpu", shared)) if raised]

    def memory_mib(self) -> float:
        """Return the most MiB that torch's allocator gave out during an inference, weights and inputs included.

        Other models that were compiled after this one count too. A CUDA graph computes in memory that the allocator
        counts as free; an inference without the graph takes as much.
        """
        torch.cuda.reset_peak_memory_stats()
        with _memory_error(self._name):
            self._call()
            torch.cuda.synchronize()
        inputs = sum(x.untyped_storage().nbytes() for x in self._inputs)  # of which there are two samples
        return (torch.cuda.max_memory_allocated() - self._before - inputs) / 2**20

    def _captured(self) -> Graph:
        try:
            return Graph(self._call)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise CompileError(
                f"cannot capture a CUDA graph of {self._name}: {type(error).__name__}: {first_line(error)}"
            ) from error

    def _computed(self) -> Any:
        if self._graph is None:
            return super()._computed()
        self._graph.launch()
        return self._graph.result

    def __exit__(self, *error: Any) -> None:
        """Free the module and its graph."""
        super().__exit__(*error)
        del self._graph


class _Availability:
    """Whether torch can use a GPU, and what it says where it cannot."""

    def __init__(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.usable = torch.cuda.is_available()
        self.words = " ".join(" ".join(str(warning.message).split()) for warning in caught)


@cache  # torch says why only once a process
def _availability() -> _Availability:
    return _Availability()


def _why_not() -> str:
    build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a CPU build"
    words = f" It says: {_availability().words}" if _availability().words else ""
    return (
        "backend 'cuda' needs a CUDA device: torch.cuda.is_available() is False "
        f"(torch {torch.__version__} {build}): install one for your driver, see https://pytorch.org/get-started{words}"
    )


@contextmanager
def _float32_math(*, tf32: bool) -> Iterator[None]:
    """Compute float32 as float32, or all of it as TF32: by default, torch uses TF32 for convolutions only."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def _memory_error(name: str) -> Iterator[None]:
    """Turn a lack of GPU memory into an error of latbench, and free what the attempt took."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        # The frames of the failed call still hold its tensors.
        traceback.clear_frames(error.__traceback__)
        torch.cuda.empty_cache()
        raise OutOfMemoryError(f"the GPU's memory does not hold {name}: {error}") from None


@cache
def _load_cublas() -> None:
    """Make cuBLAS allocate its workspaces, which it keeps for good: they must not count as a model's memory."""
    for stream in (torch.cuda.current_stream(), side_stream()):
        with torch.cuda.stream(stream):
            torch.ones(8, 8, device="cuda").mm(torch.ones(8, 8, device="cuda"))
    torch.cuda.synchronize()


@cache
def _flush_buffer() -> torch.Tensor:
    """Return a buffer of twice the size of the L2 cache, so that no placement policy keeps any of its content."""
    size = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return torch.empty(2 * size, dtype=torch.uint8, device="cuda")

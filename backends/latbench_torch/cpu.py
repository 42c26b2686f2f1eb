"""PyTorch on the CPU."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from latbench.backend import CompileOptions, Device
from latbench.devices.host import cpu_name
from latbench.model import Model
from latbench_torch.module import PreparedModule
from latbench_torch.variant import Variant


class CpuBackend:
    """PyTorch on the CPU.

    Options: ``memory_format=as_given|contiguous|channels_last``, ``autocast=no|yes`` (to the precision asked for) and
    ``compile=no|default``; the first value is the default.
    """

    name: ClassVar[str] = "cpu"

    def device(self) -> Device:
        """Return the processor and those of its instructions that torch uses."""
        facts = {"torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability()}
        return Device(cpu_name(), "cpu", facts)

    def compile(self, model: Model, options: CompileOptions) -> CpuModule:
        """Prepare the module.

        Raises:
            UsageError: an unknown option, value or precision.
            ModelError: the model came as an ONNX file.
            CompileError: ``torch.compile`` fails.
        """
        variant = Variant.parse(self.name, options, precisions=("fp32", "fp16", "bf16"), modes=("default",), more={})
        return CpuModule(model, variant, options.threads)


class CpuModule(PreparedModule):
    """A module on the CPU. One thread is the caller's own: its CPU time is what the inference takes."""

    def __init__(self, model: Model, variant: Variant, threads: int) -> None:
        self.clock = "thread_cpu" if threads == 1 else "wall"
        self._now = time.thread_time_ns if threads == 1 else time.perf_counter_ns
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            super().__init__(model, variant, "cpu")
        except BaseException:
            torch.set_num_threads(self._threads_before)
            raise

    def run(self) -> float:
        """Run one inference and return its seconds."""
        infer, now = self._infer, self._now
        with torch.inference_mode():
            inputs = self._next_inputs()
            start = now()
            infer(*inputs)
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


def _held_bytes(module: nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    tensors = chain(module.parameters(), module.buffers(), inputs)
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())

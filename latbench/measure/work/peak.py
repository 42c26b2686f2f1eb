"""The most that a device computes in a second, measured where the sessions run, and without the backend's help."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from latbench.backend import Device

_FLOOR = 100e9
"""What one core of eight lanes and two units does at 3 GHz: NumPy may come with a slow library."""

_CPU_SIZE, _GPU_SIZE = 256, 4096
_GPU_COPY_BYTES = 2**28
_REPEATS = 10

_FASTER = {"fp32": 1, "tf32": 1, "fp16": 32, "bf16": 32}
_FASTEST = 64
"""How many times the operations of single precision a core's units for matrices do in a smaller one; in int8, most."""

_GPU_FASTER = 4
"""Likewise for what a GPU does in less than half precision."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What a device does in a second at most: floating-point operations, and bytes of memory read."""

    flops: float
    bytes: float


def peak_of(device: Device, precision: str, threads: int) -> Peak | None:
    """Return the peak of a device; None where nothing but the backend could tell it.

    Args:
        device: what is measured on.
        precision: of the compiled model.
        threads: that may compute at once, on a CPU.
    """
    if device.kind == "cpu":
        flops = max(_FLOOR, _core_flops()) * threads * _FASTER.get(precision, _FASTEST)
        return Peak(flops, 2 * flops)  # no unit multiplies and adds more than one number that it loads
    return _gpu_peak(precision) if device.kind == "cuda" else None


@cache
def _core_flops() -> float:
    """Return what one core computes in single precision, from a product of matrices that its cache holds."""
    rng = np.random.default_rng(0)
    left, right = (rng.random((_CPU_SIZE, _CPU_SIZE), dtype=np.float32) for _ in range(2))
    # Other processes do not slow the thread's clock; other threads that help make the peak too large, which is safe.
    return 2 * _CPU_SIZE**3 / max(_fastest(lambda: left @ right, time.thread_time), 1e-9)


def _fastest(work: Callable[[], object], now: Callable[[], float]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        start = now()
        work()
        seconds.append(now() - start)
    return min(seconds)


@cache
def _gpu_peak(precision: str) -> Peak | None:
    import torch

    if not torch.cuda.is_available():
        return None
    single = precision == "fp32"
    kind = torch.float32 if precision in ("fp32", "tf32") else torch.float16
    settings = torch.backends.cuda.matmul
    before, settings.allow_tf32 = settings.allow_tf32, not single

    def synchronised(work: Callable[[], object]) -> float:
        def done() -> None:
            work()
            torch.cuda.synchronize()

        return _fastest(done, time.perf_counter)

    try:
        matrix = torch.ones(_GPU_SIZE, _GPU_SIZE, dtype=kind, device="cuda")
        flops = 2 * _GPU_SIZE**3 / synchronised(lambda: matrix @ matrix)
        data = torch.empty(_GPU_COPY_BYTES, dtype=torch.uint8, device="cuda")
        moved = 2 * _GPU_COPY_BYTES / synchronised(data.clone)
    except torch.OutOfMemoryError:
        return None
    finally:
        settings.allow_tf32 = before
        matrix = data = torch.empty(0)
        torch.cuda.empty_cache()
    faster = 1 if precision in ("fp32", "tf32", "fp16", "bf16") else _GPU_FASTER
    return Peak(flops * faster, moved)

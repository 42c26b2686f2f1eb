"""Energy on the GPU: how well it repeats, and a known load compared with power x time."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu.job import Job, options
from latbench import plugins
from latbench.backend import Compiled, Device
from latbench.measure.energy.windows import measure_energy
from latbench.meter import Counter, Meter
from latbench.model import Model

POLL_SECONDS = 0.02


def run(job: Job) -> None:
    name = f"{__name__}:ClockMeter" if job.dry else "power"
    with job.part("device"):
        backend = job.open_backend()
        device = backend.device()
        size = job.some(8192, 64)
        load = Model.from_module(MatMul(size), {"x": np.zeros(1, np.float32)})
        with (
            job.part(f"matrix products of {size}"),
            backend.compile(load, options(*(() if job.dry else ("bf16",)))) as compiled,
        ):
            meter: Meter = plugins.configure(plugins.METERS, name, {})
            for _ in range(3):
                compiled.run()
            known_load(job, compiled, meter.counter(device), poll(job, device))
            repeat(job, "matrix products", compiled, meter, device, seconds=job.left / 2)
        with job.part("DARTS net"), backend.compile(job.net(), options()) as compiled:
            meter = plugins.configure(plugins.METERS, name, {})
            repeat(job, "DARTS net, batch 1", compiled, meter, device, seconds=job.left)


def repeat(job: Job, what: str, compiled: Compiled, meter: Meter, device: Device, *, seconds: float) -> None:
    """Measure the energy of one model as a profile does, and report how its trials spread."""
    trials = 3
    # An idle window stands before and after each trial, and a fifth of a window passes before it counts.
    window = 0.05 if job.dry else min(5.0, seconds / ((2 * trials + 1) * 1.3))
    if job.is_over(what):
        return
    energy = measure_energy(compiled, meter, device, window_s=window, trials=trials)
    if energy.mj is None:
        job.row(what, energy.reason, status="failed")
        return
    spread = float(np.std(energy.trials, ddof=1)) / energy.mj
    job.row(
        what,
        f"{energy.mj:.4g} mJ +-{spread:.1%} over {trials} trials of {window:.1f} s, "
        f"{energy.mean_power_w:.0f} W, idle {energy.idle_power_w:.0f} W",
        {**dataclasses.asdict(energy), "spread": spread, "window_s": window},
    )


def known_load(job: Job, compiled: Compiled, counter: Counter, power_w: Callable[[], float]) -> None:
    """Compare the counter with power polled during the load, integrated from one update of the counter to another.

    NVML's power is an average over a second, and the load is steady.
    """
    seconds = 0.2 if job.dry else min(8.0, job.left / 4)
    samples: list[tuple[float, float]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            samples.append((time.perf_counter(), power_w()))
            over.wait(POLL_SECONDS)

    watcher = threading.Thread(target=watch, daemon=True)
    end = time.perf_counter() + seconds / 4
    while time.perf_counter() < end:  # the power has risen before the energy counts
        compiled.run()
    watcher.start()
    begin, before = updated(counter, compiled)
    while time.perf_counter() < begin + seconds:
        compiled.run()
    over_at, after = updated(counter, compiled)
    counted, took = after - before, over_at - begin
    over.set()
    watcher.join()
    at, watts = torch.tensor(samples, dtype=torch.float64).T
    polled = float(torch.trapezoid(watts, at) / (at[-1] - at[0])) * took * 1e3
    job.row(
        "counter / (power x time)",
        f"{counted / polled:.3f}: {counted / 1e3:.4g} J in {took:.1f} s, {len(samples)} readings of the power",
        {"ratio": counted / polled, "counted_mj": counted, "polled_mj": polled, "seconds": took},
    )


def updated(counter: Counter, compiled: Compiled) -> tuple[float, float]:
    """Run until the counter moves, at most a second; return when that was, and what it counts."""
    before = counter.energy_mj()
    end = time.perf_counter() + 1
    while (now := counter.energy_mj()) == before and time.perf_counter() < end:
        compiled.run()
    return time.perf_counter(), now


def poll(job: Job, device: Device) -> Callable[[], float]:
    """Return a function that reads the power that a device draws now, in W."""
    if job.dry:
        return lambda: ClockMeter.WATTS
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{device.unit.removeprefix('GPU-')}")
    return lambda: float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1e3


class MatMul(nn.Module):
    """A product of two square matrices: as much power as a device draws."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(size, size))

    def forward(self, x: Tensor) -> Tensor:
        matrix: Tensor = self.get_buffer("matrix")
        return (matrix @ matrix)[:1] + x


class ClockMeter:
    """The dry run's meter: a device that draws the same power while it computes, and none while it sleeps."""

    name: ClassVar[str] = "clock"
    WATTS = 10.0

    def counter(self, device: Device) -> Counter:
        return ClockCounter()


class ClockCounter:
    """Counts `ClockMeter.WATTS`."""

    def energy_mj(self) -> float:
        return time.thread_time() * ClockMeter.WATTS * 1e3

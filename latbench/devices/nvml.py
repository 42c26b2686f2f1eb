"""What the driver says about a GPU through NVML; all of it is optional, as `pynvml` (``nvidia-ml-py``) is."""

from __future__ import annotations

from functools import cache
from typing import Any

import psutil

from latbench.backend import Fact

_THROTTLING = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of NVML's clocks event reasons (NVML API reference) that mean less than the GPU would clock by itself."""


def current_uuid() -> str:
    """Return the UUID of torch's current CUDA device."""
    import torch

    return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)


def facts(uuid: str) -> dict[str, Fact]:
    """Return what stays equal while measuring; None where NVML does not say."""
    limit = _ask(uuid, "nvmlDeviceGetEnforcedPowerLimit")
    return {
        "driver": _ask(None, "nvmlSystemGetDriverVersion"),
        "power_limit_w": None if limit is None else round(limit / 1e3),
    }


def state(uuid: str) -> dict[str, Fact]:
    """Return what moves: clocks, temperature, power, throttling, and whether another process uses the GPU.

    What NVML does not report is left out.
    """
    pynvml = _pynvml()
    if pynvml is None:
        return {}
    milliwatts = _ask(uuid, "nvmlDeviceGetPowerUsage")
    reasons = _ask(uuid, "nvmlDeviceGetCurrentClocksThrottleReasons")
    told = {
        "gpu_sm_mhz": _ask(uuid, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
        "gpu_memory_mhz": _ask(uuid, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM),
        "gpu_temperature_c": _ask(uuid, "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
        "gpu_power_w": None if milliwatts is None else milliwatts / 1e3,
        "gpu_pstate": _ask(uuid, "nvmlDeviceGetPerformanceState"),
        "gpu_throttling": None if reasons is None else ", ".join(t for bit, t in _THROTTLING.items() if reasons & bit),
        "other_gpu_processes": other_processes(uuid),
    }
    return {name: value for name, value in told.items() if value is not None}


def other_processes(uuid: str) -> int | None:
    """Return how many processes compute on the GPU besides this one and its ancestors.

    None where NVML does not say: without `pynvml`, or in a container whose process numbers are not the driver's.
    """
    processes = _ask(uuid, "nvmlDeviceGetComputeRunningProcesses")
    if processes is None:
        return None
    me = psutil.Process()
    numbers = {process.pid for process in processes}
    # The process that started this worker has asked the device what it is, which keeps a context there.
    own = {process.pid for process in (me, *me.parents())}
    return len(numbers - own) if me.pid in numbers else None


def _ask(uuid: str | None, function: str, *arguments: int) -> Any:
    """Return NVML's answer about the GPU, or about the system; None where it has none."""
    pynvml = _pynvml()
    if pynvml is None:
        return None
    try:
        handle = () if uuid is None else (pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}"),)
        return getattr(pynvml, function)(*handle, *arguments)
    except pynvml.NVMLError:
        return None


@cache
def _pynvml() -> Any:
    """Return NVML's module, initialised; None where it is not installed or finds no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ModuleNotFoundError:
        return None
    except pynvml.NVMLError:
        return None
    return pynvml

"""The energy counter of NVIDIA GPUs, read through the driver (NVML)."""

from __future__ import annotations

from typing import Any, ClassVar

import pynvml

from latbench.backend import Device
from latbench.errors import CounterError, NoCounterError, PluginError


class PowerMeter:
    """Reads the millijoules that a GPU has used since its driver was loaded; Volta and newer count them."""

    name: ClassVar[str] = "power"

    def __init__(self) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise PluginError(
                f"meter 'power' needs an NVIDIA driver (NVML: {error}): install it; "
                "for a CPU, or a GPU of AMD, Jetson or Apple, use --meter zeus"
            ) from error

    def counter(self, device: Device) -> GpuCounter:
        """Return the counter of a GPU, found by its UUID: NVML and CUDA may number GPUs differently.

        Raises:
            NoCounterError: it is not an NVIDIA GPU, or does not count its energy.
        """
        uuid = device.unit
        if device.kind != "cuda" or not uuid:
            raise NoCounterError(
                f"{device.name} is not an NVIDIA GPU with a UUID, and 'power' reads nothing else: use --meter zeus"
            )
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except pynvml.NVMLError as error:
            raise NoCounterError(
                f"{device.name} ({uuid}) does not report its energy (NVML: {error}): use a whole GPU, Volta or newer"
            ) from error
        return GpuCounter(handle, device.name)


class GpuCounter:
    """The energy counter of one GPU."""

    def __init__(self, handle: Any, name: str) -> None:
        self._handle, self._name = handle, name

    def energy_mj(self) -> float:
        """Return the millijoules since the driver was loaded.

        Raises:
            CounterError: the GPU can no longer be read.
        """
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except pynvml.NVMLError as error:
            raise CounterError(f"the energy of {self._name} can no longer be read (NVML: {error})") from error

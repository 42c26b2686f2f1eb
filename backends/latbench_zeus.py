"""The energy counters that ml.energy Zeus finds: CPUs (RAPL), AMD and NVIDIA GPUs, Jetson and Apple chips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from zeus.device.cpu import get_cpus
from zeus.device.cpu.common import ZeusCPUNoPermissionError
from zeus.device.exception import ZeusBaseSoCError
from zeus.device.gpu import get_gpus
from zeus.device.soc import get_soc
from zeus.exception import ZeusBaseError

from latbench.backend import Device
from latbench.errors import CounterError, NoCounterError

_CPU_OF_CHIP = ("cpu_total_mj", "cpu_energy_mj")
_GPU_OF_CHIP = ("gpu_mj", "gpu_energy_mj")
"""What Zeus calls the parts of an Apple chip and of a Jetson."""

_GPU_KINDS = ("cuda", "hip", "mps")


class ZeusMeter:
    """Asks Zeus for a device's counter.

    A CPU is all of its packages and, where counted, their memory: whatever else runs on the machine is included.
    A GPU must be the only visible one: Zeus knows GPUs by number, and other libraries may number them differently.
    """

    name: ClassVar[str] = "zeus"

    def counter(self, device: Device) -> ZeusCounter | RaplCounter:
        """Return the counter of a device.

        Raises:
            NoCounterError: Zeus knows no counter, or may not read it.
        """
        if device.kind not in ("cpu", *_GPU_KINDS):
            raise NoCounterError(f"Zeus counts CPUs and GPUs, and {device.name} is neither ({device.kind!r})")
        try:
            if device.kind == "cpu":
                return _chip(_CPU_OF_CHIP) or _cpus(device)
            return _chip(_GPU_OF_CHIP) or _gpu(device)
        except ZeusCPUNoPermissionError as error:
            raise NoCounterError(
                f"the energy of {device.name} must not be read by this user: run as root, start Zeus's daemon "
                "(https://ml.energy/zeus), or chmod a+r /sys/class/powercap/intel-rapl/*/energy_uj"
            ) from error
        except (ZeusBaseError, OSError) as error:
            raise NoCounterError(
                f"Zeus finds no energy counter of {device.name} ({error}): a CPU needs /sys/class/powercap, which "
                "virtual machines rarely have; measure on the machine itself, or leave --meter out"
            ) from error


@dataclass(frozen=True, slots=True)
class ZeusCounter:
    """A counter that Zeus reads; `read` gives millijoules."""

    read: Callable[[], float]

    def energy_mj(self) -> float:
        """Return the millijoules that Zeus counts.

        Raises:
            CounterError: Zeus can no longer read it.
        """
        try:
            return float(self.read())
        except (ZeusBaseError, OSError) as error:
            raise CounterError(f"Zeus can no longer read the energy counter: {error}") from error


class RaplCounter:
    """Registers of the CPU that wrap around after a few minutes under load.

    Zeus would watch for that in a process of its own, which outlives a worker that is killed. A register that is read
    at either end of each window, as here, cannot wrap twice unnoticed: it lasts for minutes, a window for seconds.

    Args:
        registers: ``energy_uj`` files, each with the range of its register in µJ.
    """

    def __init__(self, registers: Sequence[tuple[Path, float]]) -> None:
        self._registers = registers
        self._last = [_read_uj(path) for path, _ in registers]
        self._total_uj = 0.0

    def energy_mj(self) -> float:
        """Return the millijoules since this counter was made.

        Raises:
            CounterError: a register can no longer be read.
        """
        try:
            now = [_read_uj(path) for path, _ in self._registers]
        except (OSError, ValueError) as error:
            raise CounterError(f"the CPU's energy can no longer be read: {error}") from error
        for value, last, (_, span) in zip(now, self._last, self._registers, strict=True):
            self._total_uj += value - last if value >= last else value - last + span
        self._last = now
        return self._total_uj / 1e3


def _read_uj(path: Path) -> float:
    return float(path.read_text())


def _chip(parts: Sequence[str]) -> ZeusCounter | None:
    """Return the counter of a part of an Apple chip or a Jetson; None on any other machine."""
    try:
        chip = get_soc()
        told = chip.get_total_energy_consumption()
    except ZeusBaseSoCError:
        return None
    part = next((name for name in parts if getattr(told, name, None) is not None), None)
    return None if part is None else ZeusCounter(lambda: getattr(chip.get_total_energy_consumption(), part))


def _cpus(device: Device) -> ZeusCounter | RaplCounter:
    cpus: Sequence[Any] = get_cpus().cpus
    if all(hasattr(cpu, "rapl_file") for cpu in cpus):
        # A laptop's zone "psys" is the whole board, its packages included.
        packages = [cpu for cpu in cpus if cpu.rapl_file.name.startswith("package")]
        zones = [zone for cpu in packages for zone in (cpu.rapl_file, cpu.dram) if zone is not None]
        if not zones:
            raise NoCounterError(f"the kernel lists no package of {device.name} under /sys/class/powercap")
        return RaplCounter([(Path(zone.energy_uj_path), zone.max_energy_range_uj) for zone in zones])

    def daemon() -> float:  # it may read what only root may, and counts the wraps
        told = [cpu.get_total_energy_consumption() for cpu in cpus]
        return float(sum(each.cpu_mj + (each.dram_mj or 0.0) for each in told))

    return ZeusCounter(daemon)


def _gpu(device: Device) -> ZeusCounter:
    gpus = get_gpus()
    if len(gpus) != 1:
        raise NoCounterError(
            f"Zeus sees {len(gpus)} GPUs and cannot tell which of them is {device.name}: "
            "leave one visible (HIP_VISIBLE_DEVICES, CUDA_VISIBLE_DEVICES), or use --meter power for NVIDIA"
        )
    if not gpus.supports_get_total_energy_consumption(0):
        raise NoCounterError(f"Zeus says that {device.name} does not count its energy")
    return ZeusCounter(lambda: gpus.get_total_energy_consumption(0))

"""The machine around a measurement: what stays equal (facts), what moves (state), and what it allows."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path

import psutil

from latbench.backend import Fact
from latbench.errors import UsageError


@cache
def cpu_name() -> str:
    """Return the processor's marketing name, as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model", "Hardware")))
    return next(models, platform.machine())


@cache
def host_facts() -> dict[str, Fact]:
    """Return what a latency on this machine depends on and does not change while measuring."""
    return {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "smt": _read("/sys/devices/system/cpu/smt/active") == "1",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(),
        "os": platform.system(),
        "hypervisor": "hypervisor" in (_read("/proc/cpuinfo") or ""),
    }


def host_state() -> dict[str, Fact]:
    """Return what moves, or is worth knowing later: load, memory, clock, temperature. Read only between sessions."""
    load = psutil.getloadavg()[0]
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return {
        "load": round(load, 2),
        "free_memory_mib": psutil.virtual_memory().available // 2**20,
        "cpu_mhz": round(frequency.current) if frequency else None,
        "temperature_c": _temperature(),
        "affinity": ",".join(map(str, sorted(usable_cores()))),
        "quota_cores": quota_cores(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "hostname": platform.node(),
    }


def usable_cores() -> set[int]:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def divided_cores(threads: int) -> tuple[set[int], set[int]]:
    """Divide the usable cores into those that may compile ahead and those that time a run of so many threads.

    Timing takes the last cores, since interrupts favour the first. Nothing compiles ahead, and the first set is empty,
    where timing needs all cores or a quota would make one of them wait for the other.
    """
    cores = sorted(usable_cores())
    compiling = set() if quota_cores() is not None else set(cores[:-threads])
    return compiling, set(cores[-threads:])


def quota_cores() -> float | None:
    """Return the CPU quota of this process's control group, in cores; None where there is no limit."""
    version2 = (_read("/sys/fs/cgroup/cpu.max") or "").split()
    if len(version2) == 2:
        return None if version2[0] == "max" else int(version2[0]) / int(version2[1])
    quota = int(_read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") or -1)
    period = int(_read("/sys/fs/cgroup/cpu/cpu.cfs_period_us") or 0)
    return quota / period if quota > 0 and period > 0 else None


def check_threads(threads: int) -> None:
    """Refuse more threads than can run at once.

    Raises:
        UsageError: `threads` exceeds the affinity mask or the control group's quota, or is not positive.
    """
    if threads < 1:
        raise UsageError(f"--threads {threads} is not positive: give --threads 1 or more")
    cores, quota = len(usable_cores()), quota_cores()
    if threads > cores:
        raise UsageError(
            f"{threads} threads do not fit on the {cores} cores this process may use: give --threads {cores}"
        )
    if quota is not None and threads > quota:
        raise UsageError(
            f"{threads} threads exceed this process's quota of {quota:g} cores: give --threads {max(1, int(quota))}"
        )


def _turbo() -> bool | None:
    no_turbo = _read("/sys/devices/system/cpu/intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == "0"
    boost = _read("/sys/devices/system/cpu/cpufreq/boost")
    return None if boost is None else boost == "1"


def _temperature() -> float | None:
    if sys.platform != "linux":
        return None
    readings = [sensor.current for chip in psutil.sensors_temperatures().values() for sensor in chip]
    return max(readings, default=None)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None

"""What the driver tells of a GPU, with a scripted driver."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest

from latbench.devices import nvml


class NoSuchThing(Exception):  # noqa: N818 - stands for NVMLError
    """Raised by what the GPU does not have."""


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Stand in for pynvml, on a GPU that has no performance states."""

    def refuses(handle: object) -> int:
        raise NoSuchThing

    module = SimpleNamespace(
        NVMLError=NoSuchThing,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 450_000,
        nvmlDeviceGetPowerUsage=lambda handle: 61_500,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x1 | 0x4 | 0x40,
        nvmlDeviceGetClockInfo=lambda handle, which: {1: 1980, 2: 3201}[which],
        nvmlDeviceGetTemperature=lambda handle, sensor: 41,
        nvmlDeviceGetPerformanceState=refuses,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [],
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    nvml._pynvml.cache_clear()
    yield module
    nvml._pynvml.cache_clear()


def test_the_state_holds_what_the_driver_tells_and_nothing_else(driver: SimpleNamespace) -> None:
    assert nvml.facts("0000") == {"driver": "580.1", "power_limit_w": 450}
    assert nvml.state("0000") == {
        "gpu_sm_mhz": 1980,
        "gpu_memory_mhz": 3201,
        "gpu_temperature_c": 41,
        "gpu_power_w": 61.5,
        "gpu_throttling": "power cap, hardware thermal slowdown",
    }


def test_other_processes_are_those_that_are_not_of_this_run(driver: SimpleNamespace) -> None:
    me = psutil.Process()
    own = [SimpleNamespace(pid=me.pid), SimpleNamespace(pid=me.ppid())]
    driver.nvmlDeviceGetComputeRunningProcesses = lambda handle: [*own, SimpleNamespace(pid=2**22 + 1)]
    assert nvml.other_processes("0000") == 1
    driver.nvmlDeviceGetComputeRunningProcesses = lambda handle: own
    assert nvml.other_processes("0000") == 0
    # Numbers of another namespace tell nothing.
    driver.nvmlDeviceGetComputeRunningProcesses = lambda handle: [SimpleNamespace(pid=2**22 + 1)]
    assert nvml.other_processes("0000") is None


def test_without_pynvml_there_is_no_state_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    nvml._pynvml.cache_clear()
    assert nvml.state("0000") == {}
    assert nvml.facts("0000") == {"driver": None, "power_limit_w": None}
    nvml._pynvml.cache_clear()

"""The ``power`` meter, against a driver that is scripted: what NVML says becomes a counter, or words."""

from __future__ import annotations

from typing import Any

import pytest

from latbench.backend import Device
from latbench.errors import CounterError, NoCounterError, PluginError

pynvml = pytest.importorskip("pynvml")

from latbench_power import PowerMeter  # noqa: E402

UUID = "8e2b1d0a-0000-1111-2222-333344445555"
GPU = Device("Tesla V100", "cuda", unit=UUID)


def fails(code: int) -> Any:
    def raise_(*_: Any) -> Any:
        raise pynvml.NVMLError(code)

    return raise_


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The UUIDs that a driver with one GPU is asked for; its counter goes up by 5 mJ a reading."""
    asked: list[str] = []
    readings = iter(range(0, 1000, 5))

    def handle(uuid: str) -> str:
        asked.append(uuid)
        if uuid != f"GPU-{UUID}":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "handle"

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", handle)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: next(readings))
    return asked


@pytest.mark.parametrize("uuid", [UUID, f"GPU-{UUID}"])
def test_the_gpu_is_found_by_its_uuid_with_or_without_prefix(asked: list[str], uuid: str) -> None:
    counter = PowerMeter().counter(Device("Tesla V100", "cuda", unit=uuid))
    assert asked == [f"GPU-{UUID}"]
    first = counter.energy_mj()
    assert counter.energy_mj() == first + 5


def test_a_cpu_is_sent_to_zeus(asked: list[str]) -> None:
    with pytest.raises(NoCounterError, match=r"some Xeon is not an NVIDIA GPU.*--meter zeus"):
        PowerMeter().counter(Device("some Xeon", "cpu"))


def test_a_gpu_that_the_driver_does_not_know_is_refused(asked: list[str]) -> None:
    with pytest.raises(NoCounterError, match=r"GPU-other.*Not Found"):
        PowerMeter().counter(Device("Tesla V100", "cuda", unit="GPU-other"))


def test_a_gpu_that_counts_no_energy_says_so(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    not_supported = fails(pynvml.NVML_ERROR_NOT_SUPPORTED)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", not_supported)
    with pytest.raises(NoCounterError, match=r"Tesla V100.*Not Supported.*Volta or newer"):
        PowerMeter().counter(GPU)


def test_a_gpu_that_is_lost_is_a_failure(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    counter = PowerMeter().counter(GPU)
    lost = fails(pynvml.NVML_ERROR_GPU_IS_LOST)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lost)
    with pytest.raises(CounterError, match=r"Tesla V100 can no longer be read"):
        counter.energy_mj()


def test_a_machine_without_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", fails(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    with pytest.raises(PluginError, match=r"needs an NVIDIA driver.*Shared Library Not Found"):
        PowerMeter()

"""The ``zeus`` meter, against a folder that looks like the kernel's powercap tree."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latbench.backend import Device
from latbench.errors import CounterError, NoCounterError

pytest.importorskip("zeus")

import zeus.device.cpu
import zeus.device.cpu.rapl
from zeus.device.cpu.common import ZeusCPUNoPermissionError

from latbench_zeus import ZeusMeter

CPU = Device("some Xeon", "cpu")
RANGE_UJ = 262_143_328_850


def zone(folder: Path, name: str, energy_uj: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    register = folder / "energy_uj"
    register.write_text(f"{energy_uj}\n")
    return register


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The powercap tree of a machine; it is empty yet, and the only thing that Zeus finds."""
    root = tmp_path / "intel-rapl"
    root.mkdir()
    monkeypatch.setattr(zeus.device.cpu.rapl, "RAPL_DIR", str(root))
    monkeypatch.setattr(zeus.device.cpu.rapl, "CONTAINER_RAPL_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("latbench_zeus.get_soc", no_chip)
    forget(monkeypatch)
    return root


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeus.device.cpu, "_cpus", None)
    zeus.device.cpu.rapl.rapl_is_available.cache_clear()


def no_chip() -> Any:
    from zeus.device.soc.common import ZeusSoCInitError

    raise ZeusSoCInitError("no chip")


def test_packages_and_memory_are_added_and_the_board_is_not_counted_twice(tree: Path) -> None:
    packages = [zone(tree / f"intel-rapl:{i}", f"package-{i}", 1_000_000) for i in range(2)]
    memory = zone(tree / "intel-rapl:0" / "intel-rapl:0:0", "dram", 500)
    cores = zone(tree / "intel-rapl:0" / "intel-rapl:0:1", "core", 500)
    board = zone(tree / "intel-rapl:2", "psys", 0)
    counter = ZeusMeter().counter(CPU)
    assert counter.energy_mj() == 0
    packages[0].write_text("3000000\n")
    packages[1].write_text("1500000\n")
    memory.write_text("1500\n")
    cores.write_text("999999\n")
    board.write_text("9999999\n")
    assert counter.energy_mj() == 2000 + 500 + 1


def test_a_register_that_wraps_around_goes_on(tree: Path) -> None:
    register = zone(tree / "intel-rapl:0", "package-0", RANGE_UJ - 1_000)
    counter = ZeusMeter().counter(CPU)
    read = [counter.energy_mj()]
    for energy_uj in (RANGE_UJ - 500, 2_000, RANGE_UJ, 0, 4_000):
        register.write_text(f"{energy_uj}\n")
        read.append(counter.energy_mj())
    span = RANGE_UJ / 1e3
    assert read == pytest.approx([0, 0.5, 3, span + 1, span + 1, span + 5])
    assert not multiprocessing.active_children(), "a process that watches the register outlives a killed worker"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file: see the test below for what zeus raises")
def test_a_register_that_only_root_may_read_says_how_to_open_it(tree: Path) -> None:
    zone(tree / "intel-rapl:0", "package-0", 0).chmod(0)
    with pytest.raises(NoCounterError, match="some Xeon must not be read by this user: run as root"):
        ZeusMeter().counter(CPU)


def test_what_zeus_may_not_read_says_how_to_open_it(monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    def refuse() -> Any:
        raise ZeusCPUNoPermissionError("Can't read file due to permission error")

    monkeypatch.setattr("latbench_zeus.get_cpus", refuse)
    with pytest.raises(NoCounterError, match="some Xeon must not be read by this user: run as root"):
        ZeusMeter().counter(CPU)


def test_a_register_that_vanishes_is_a_failure(tree: Path) -> None:
    register = zone(tree / "intel-rapl:0", "package-0", 7)
    counter = ZeusMeter().counter(CPU)
    register.unlink()
    with pytest.raises(CounterError, match="can no longer be read"):
        counter.energy_mj()


def test_a_machine_without_counters_says_so(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoCounterError, match="no package of some Xeon"):
        ZeusMeter().counter(CPU)
    tree.rmdir()
    forget(monkeypatch)
    with pytest.raises(NoCounterError, match="no energy counter of some Xeon"):
        ZeusMeter().counter(CPU)


def test_the_daemon_counts_what_only_root_may_read(monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    told = iter([(1000.0, 10.0), (1500.0, None)])

    def read() -> Any:
        cpu_mj, dram_mj = next(told)
        return SimpleNamespace(cpu_mj=cpu_mj, dram_mj=dram_mj)

    cpu = SimpleNamespace(get_total_energy_consumption=read)
    monkeypatch.setattr("latbench_zeus.get_cpus", lambda: SimpleNamespace(cpus=[cpu]))
    counter = ZeusMeter().counter(CPU)
    assert [counter.energy_mj(), counter.energy_mj()] == [1010, 1500]


def test_each_part_of_a_chip_has_its_own_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    told = SimpleNamespace(cpu_total_mj=5, gpu_mj=7, cpu_energy_mj=None)
    chip = SimpleNamespace(get_total_energy_consumption=lambda: told)
    monkeypatch.setattr("latbench_zeus.get_soc", lambda: chip)
    meter = ZeusMeter()
    assert meter.counter(Device("Apple M9", "cpu")).energy_mj() == 5
    assert meter.counter(Device("Apple M9", "mps")).energy_mj() == 7


class Gpus(list[Any]):
    def supports_get_total_energy_consumption(self, index: int) -> bool:
        return self[index] is not None

    def get_total_energy_consumption(self, index: int) -> int:
        return int(self[index])


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [([1, 2], "sees 2 GPUs.*HIP_VISIBLE_DEVICES"), ([], "sees 0 GPUs"), ([None], "does not count its energy")],
)
def test_a_gpu_that_cannot_be_told_or_counted_is_refused(
    monkeypatch: pytest.MonkeyPatch, gpus: list[Any], reason: str
) -> None:
    monkeypatch.setattr("latbench_zeus.get_soc", no_chip)
    monkeypatch.setattr("latbench_zeus.get_gpus", lambda: Gpus(gpus))
    with pytest.raises(NoCounterError, match=reason):
        ZeusMeter().counter(Device("Instinct", "cuda"))


def test_the_only_gpu_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latbench_zeus.get_soc", no_chip)
    monkeypatch.setattr("latbench_zeus.get_gpus", lambda: Gpus([1234]))
    assert ZeusMeter().counter(Device("Instinct", "cuda")).energy_mj() == 1234

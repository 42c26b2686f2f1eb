"""What a clock may miss: other threads, waiting, work that is remembered, and work that was never waited for."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.backend import CompileOptions, Device, median_per_run, profiled_runs
from latbench.errors import MeasurementError
from latbench.measure.clocks import Seconds
from latbench.measure.one_model.record import ModelRecord
from latbench.measure.one_model.sessions import measure_model, measure_on_backends
from latbench.measure.quantities.latency import LatencyQuantity
from latbench.measure.session import run_session
from latbench.measure.settings import Settings
from latbench.measure.work.peak import peak_of
from latbench.measure.workloads import CompiledWorkload, Workload
from latbench.model import Model
from latbench.testing import NullBackend

SHORT = Settings(min_rounds=4, max_rounds=4, max_seconds=5.0)
CPU = Device("this machine", "cpu")


@pytest.fixture(autouse=True, scope="module")
def _short_collections() -> Iterator[None]:
    """Each session collects garbage once, which among all that torch has loaded takes a tenth of a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Computing(nn.Module):
    """Computes for 2 ms."""

    def forward(self, x: Tensor) -> Tensor:
        compute(0.002)
        return x


class Waiting(nn.Module):
    """Waits for 4 ms, as for a disk."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.004)
        return x


class Threaded(nn.Module):
    """Has another thread compute for 2 ms, and computes for 2 ms beside it."""

    def forward(self, x: Tensor) -> Tensor:
        other = threading.Thread(target=compute, args=(0.002,))
        other.start()
        compute(0.002)
        other.join()
        return x


class Counting(nn.Module):
    """Computes in every fifth call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.calls % 5 == 0:
            compute(0.005)
        self.calls += 1
        return x


class Remembering(nn.Module):
    """Computes only for an input that it has not just seen."""

    def __init__(self, is_same: Callable[[Any, Any], bool]) -> None:
        super().__init__()
        self.is_same = is_same
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.last is None or not self.is_same(self.last, x):
            compute(0.002)
            self.last = x.clone() if self.is_same is torch.equal else x
        return x


def measured(module: nn.Module, backend: Any = "cpu") -> Any:
    return measure_model(module, torch.randn(1, 8), backend=backend, settings=SHORT)


def record(module: nn.Module) -> ModelRecord:
    (result,) = measure_on_backends(Model.from_module(module, torch.randn(1, 8), batch=1), ["cpu"], settings=SHORT)
    assert isinstance(result, ModelRecord)
    return result


def test_one_thread_that_computes_is_timed_on_its_own_clock() -> None:
    told = record(Computing())
    assert told.conditions.clock == "thread_cpu"
    assert told.measurement.value == pytest.approx(2.0, rel=0.2)
    assert not {"waits", "other-threads"} & set(told.measurement.flags)


@pytest.mark.parametrize(("module", "flag", "least_ms"), [(Waiting, "waits", 4.0), (Threaded, "other-threads", 2.0)])
def test_what_the_threads_clock_misses_is_timed_on_the_walls(
    module: type[nn.Module], flag: str, least_ms: float
) -> None:
    told = record(module())
    assert told.conditions.clock == "wall"
    assert told.measurement.value >= least_ms
    assert flag in told.measurement.flags
    assert told.inspection.percentiles["p50"] >= least_ms
    assert told.inspection.percentiles == told.inspection.wall_percentiles


def test_in_a_session_of_several_such_a_model_is_refused_as_they_share_one_clock() -> None:
    def workload(module: nn.Module) -> Workload:
        model = Model.from_module(module, torch.randn(1, 8))
        return Workload("model", model.name, lambda: model)

    from latbench_torch import CpuBackend

    workloads = [workload(module()) for module in (Computing, Waiting, Threaded)]
    result = run_session(CpuBackend(), workloads, LatencyQuantity(), CompileOptions(), SHORT)
    assert [m.subject for m in result.measurements] == ["Computing"]
    reasons = {failure.subject: failure.reason for failure in result.failures}
    assert "waits in the middle of its work, which the clock 'thread_cpu' does not see" in reasons["Waiting"]
    assert "threads of its own do part of its work" in reasons["Threaded"]


def test_a_queue_for_a_core_is_no_waiting() -> None:
    assert Seconds(thread=1.0, process=1.01, wall=5.0, queued=4.0).escape() == ""
    assert Seconds(thread=1.0, process=1.01, wall=5.0, queued=3.0).escape() == "waits"
    assert Seconds(thread=1.0, process=1.5, wall=1.0, queued=0.0).escape() == "other-threads"
    assert Seconds(thread=1.0, process=1.01, wall=5.0, queued=float("nan")).escape() == ""


def test_a_model_that_computes_in_few_calls_gets_the_mean_of_them() -> None:
    told = record(Counting())
    assert told.measurement.value == pytest.approx(1.0, rel=0.35)
    assert "uneven" in told.measurement.flags
    assert told.inputs_per_second == pytest.approx(1e3 / told.measurement.value)
    assert "mean of all runs" in told.estimate


def test_few_long_runs_are_seen_where_every_visit_was_interrupted() -> None:
    model = Model.from_module(Counting(), torch.ones(1, 4))
    with NullBackend().compile(model, CompileOptions()) as compiled:
        workload = Workload("model", "counting", lambda: model)
        each = CompiledWorkload(0, workload, model, compiled, compile_ms=0.0, on_wall=True)
        assert not each.is_uneven()
        each.interrupted_ms += [(0.02, 1.0, 5.0)] * 4
        assert each.is_uneven()
        each.calm_ms += [(1.0, 1.0, 1.0)] * 4
        assert not each.is_uneven()


def test_readings_of_a_clock_that_has_not_moved_are_no_times() -> None:
    readings = iter([*[1e-5] * 10, *([0.0, 2e-5] * 400)])

    def run(self: Any) -> float:
        return next(readings, 2e-5)

    coarse = NullBackend()
    compile_ = coarse.compile

    def compiled(model: Model, options: CompileOptions) -> Any:
        made = compile_(model, options)
        made.run = run.__get__(made)  # type: ignore[method-assign]
        return made

    coarse.compile = compiled  # type: ignore[method-assign]
    assert measured(nn.Identity(), coarse).value == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("is_same", [lambda a, b: a is b, lambda a, b: a.data_ptr() == b.data_ptr(), torch.equal])
def test_a_model_that_remembers_its_last_input_computes_anew(is_same: Callable[[Any, Any], bool]) -> None:
    assert measured(Remembering(is_same)).value == pytest.approx(2.0, rel=0.2)


class HastyBackend:
    """A backend that does not wait: a run returns once the work is queued."""

    name: ClassVar[str] = "hasty"

    def __init__(self, device: Device = CPU) -> None:
        self._device = device

    def device(self) -> Device:
        return self._device

    def compile(self, model: Model, options: CompileOptions) -> Hasty:
        return Hasty(model)


class Hasty:
    clock = "wall"

    def __init__(self, model: Model) -> None:
        self._model = model

    def run(self) -> float:
        start = time.perf_counter()
        while time.perf_counter() - start < 2e-5:
            pass
        return time.perf_counter() - start

    def outputs(self) -> list[Any]:
        return self._model.reference_outputs()

    def __enter__(self) -> Hasty:
        return self

    def __exit__(self, *_: object) -> None:
        """Free nothing."""


def heavy() -> Model:
    layers = [nn.Conv2d(32, 32, 3, padding=1) for _ in range(8)]
    return Model.from_module(nn.Sequential(*layers), {"x": np.zeros((1, 32, 64, 64), np.float32)}, name="heavy")


def test_a_backend_that_does_not_wait_for_its_device_is_refused() -> None:
    with pytest.raises(MeasurementError, match=r"heavy: not run: 0.02 ms is too short for its 0\.\d+ GFLOPs") as caught:
        measure_model(heavy(), HastyBackend(), settings=SHORT)
    assert "have the backend wait for its device" in str(caught.value)


def test_every_model_of_a_backend_that_does_not_wait_is_refused() -> None:
    models = [heavy(), heavy(), Model.from_module(nn.Linear(2, 2), torch.ones(1, 2), name="light")]
    workloads = [Workload("model", m.name, lambda m=m: m) for m in models]  # type: ignore[misc]
    result = run_session(HastyBackend(), workloads, LatencyQuantity(), CompileOptions(), SHORT)
    assert [failure.reason[:7] for failure in result.failures] == ["not run"] * len(result.failures)
    assert "light" not in {failure.subject for failure in result.failures}


def test_a_time_is_refused_only_where_the_peak_is_known_and_the_time_is_real() -> None:
    assert measure_model(heavy(), HastyBackend(Device("a chip", "npu")), settings=SHORT).value < 0.1
    assert measure_model(heavy(), NullBackend(cost_ms=lambda _: 0.02), settings=SHORT).value < 0.1


@pytest.mark.parametrize("backend", ["cpu", "onnxruntime"])
def test_what_runs_is_not_refused(backend: str) -> None:
    product = Model.from_module(nn.Linear(768, 768, bias=False), {"x": np.ones((768, 768), np.float32)})
    assert measure_model(product, backend, settings=SHORT).value > 0


def test_no_core_computes_more_than_its_peak() -> None:
    peak = peak_of(CPU, "fp32", 1)
    assert peak is not None
    matrix = np.ones((512, 512), np.float32)
    start = time.thread_time()
    matrix @ matrix
    assert 2 * 512**3 / (time.thread_time() - start) < 2 * peak.flops
    assert peak_of(CPU, "fp32", 2) != peak
    assert peak_of(Device("a chip", "npu"), "fp32", 1) is None


def test_an_operators_time_is_the_median_of_the_runs() -> None:
    assert median_per_run([1.0, 1.0, 70.0], 3) == 1.0
    assert median_per_run([1.0, 2.0, 1.0, 70.0, 1.0, 2.0], 3) == 3.0
    assert median_per_run([1.0, 2.0, 3.0, 4.0, 5.0], 2) == 7.5
    assert [profiled_runs(seconds) for seconds in (0.0, 0.001, 0.1, 3.0)] == [100, 100, 20, 3]

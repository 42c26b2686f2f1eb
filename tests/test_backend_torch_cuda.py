"""What the cuda backend does beyond the contract, without a GPU: scripted events, and what it refuses."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent

from latbench.backend import CompileOptions
from latbench.devices import nvml
from latbench.errors import CompileError, OutOfMemoryError, PluginError, UsageError
from latbench.model import Model
from latbench_torch import CudaBackend, cuda
from latbench_torch.cuda import CudaModule
from latbench_torch.variant import Variant


class Notes(nn.Module):
    """A module that notes its runs and how float32 is computed in them."""

    def __init__(self, log: list[str], then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.log, self.then = log, then

    def forward(self, x: Tensor) -> Tensor:
        math = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        self.log.append({(True, True): "tf32", (False, False): "fp32"}.get(math, "mixed"))
        self.then()
        return x + 1


class Events:
    """Stand in for CUDA events: they note their order, and the run between two takes what the script says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.ms = 5.0
        self.made = 0
        monkeypatch.setattr(torch.cuda, "Event", self.event)
        monkeypatch.setattr(cuda, "_load_cublas", lambda: None)
        monkeypatch.setattr(nvml, "current_uuid", lambda: "0000")
        monkeypatch.setattr(nvml, "other_processes", lambda uuid: None)

    def event(self, *, enable_timing: bool) -> SimpleNamespace:
        assert enable_timing
        self.made += 1
        name = "start" if self.made % 2 else "end"
        return SimpleNamespace(
            record=lambda: self.log.append(name),
            synchronize=lambda: self.log.append(f"wait for {name}"),
            elapsed_time=lambda end: self.ms,
        )


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    return Events(monkeypatch)


def prepared(
    events: Events, precision: str = "fp32", *, graph: bool = False, then: Callable[[], None] = lambda: None
) -> CudaModule:
    model = Model("net", {"x": np.zeros((1, 2), np.float32)}, module=lambda: Notes(events.log, then))
    return CudaModule(model, Variant(precision), graph=graph, device="cpu")


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_a_run_is_timed_between_two_events_in_the_math_asked_for(events: Events, precision: str) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with prepared(events, precision) as compiled:
        assert compiled.run() == pytest.approx(5e-3)
    assert events.log == ["start", precision, "end", "wait for end"]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_models_of_either_math_take_turns(events: Events) -> None:
    with prepared(events, "tf32") as fast, prepared(events) as exact:
        for compiled in (exact, fast, exact):
            compiled.outputs()
    assert events.log == ["fp32", "tf32", "fp32"]


def test_a_graph_is_captured_once_and_launched_in_every_run(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    class Graph:
        def __init__(self, call: Callable[[], Tensor]) -> None:
            self.result = call().clone()
            events.log.append("captured")

        def launch(self) -> None:
            self.result += 10
            events.log.append("launched")

    monkeypatch.setattr(cuda, "Graph", Graph)
    with prepared(events, "tf32", graph=True) as compiled:
        compiled.run()
        np.testing.assert_array_equal(compiled.outputs()[0], [[21, 21]])
        events.ms = 1e-9  # what would be launch-bound, launched one by one
        compiled.run()
        assert compiled.flags() == []
    run = ["start", "launched", "end", "wait for end"]
    assert events.log == ["tf32", "captured", *run, "launched", *run]


def test_a_module_that_cannot_be_captured_is_a_compile_error(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(call: Callable[[], object]) -> object:
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(cuda, "Graph", refuses)
    with pytest.raises(CompileError, match=r"cannot capture a CUDA graph of net: .*capturing$"):
        prepared(events, graph=True)


def test_a_network_is_launch_bound_if_most_runs_wait_for_the_host(events: Events) -> None:
    with prepared(events) as compiled:
        events.ms = 1e-9
        compiled.run()
        assert compiled.flags() == ["launch-bound"]
        events.ms = 1e6
        compiled.run()
        assert compiled.flags() == []


def test_a_second_process_on_the_gpu_is_flagged(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    with prepared(events) as compiled:
        compiled.run()
        monkeypatch.setattr(nvml, "other_processes", lambda uuid: 1)
        assert compiled.flags() == ["shared-gpu"]


def test_a_lack_of_memory_is_an_error_of_one_model_and_gives_back_what_it_took(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Tensor]] = []

    def allocate() -> None:
        activations = torch.zeros(3)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")

    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(held[-1]() is None))
    with (
        prepared(events, then=allocate) as compiled,
        pytest.raises(OutOfMemoryError, match="the GPU's memory does not hold net: CUDA out of memory"),
    ):
        compiled.run()
    assert emptied == [True]


def test_kernels_are_part_of_the_operators_that_launch_them(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    def event(number: int, name: str, start: float, end: float, kind: DeviceType) -> FunctionEvent:
        on_gpu = kind == DeviceType.CUDA
        shapes = [] if on_gpu else [[1, 3, 8, 8]]
        thread = 7 if on_gpu else 0
        return FunctionEvent(number, name, thread, start, end, input_shapes=shapes, device_type=kind, use_device="cuda")

    operator = event(1, "aten::conv2d", 0, 100, DeviceType.CPU)
    inner = event(2, "aten::cudnn_convolution", 10, 90, DeviceType.CPU)
    inner.append_kernel("sm90_xmma_fprop", 0, 40.0)
    kernel = event(3, "void at::native::elementwise_kernel<4>", 50, 90, DeviceType.CUDA)
    profiled = EventList([operator, inner, kernel], use_device="cuda")
    profiled._build_tree()
    assert all(e.device_time_total > 0 for e in profiled)
    monkeypatch.setattr(CudaModule, "_on_gpu", True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr("latbench_torch.module.profiled_runs", lambda seconds: 1)
    with prepared(events) as compiled:
        monkeypatch.setattr(compiled, "_profiled", lambda *_, **__: SimpleNamespace(events=lambda: profiled))
        (told,) = compiled.operator_times()
    assert (told.type, told.name, told.ms) == ("conv2d", "1x3x8x8", pytest.approx(0.04))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaBackend]:
    """Give the backend as if there were a GPU: what it refuses, it refuses before it touches one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cuda._availability.cache_clear()
    yield CudaBackend()
    cuda._availability.cache_clear()


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_a_graph_of_graphs_is_refused(backend: CudaBackend, mode: str) -> None:
    model = Model.from_module(nn.Identity(), {"x": np.zeros(1, np.float32)})
    with pytest.raises(UsageError, match=f"compile={mode} already launches CUDA graphs: leave graph=yes out"):
        backend.compile(model, CompileOptions(options={"compile": mode, "graph": "yes"}))


@pytest.mark.parametrize(("given", "chosen"), [("", ["0", "1"]), ("3,5", ["3", "5"]), ("5", ["0", "1"])])
def test_each_gpu_is_a_unit_that_a_process_can_choose(
    backend: CudaBackend, given: str, chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"uuid-{index}"))
    told = [("uuid-0", {"CUDA_VISIBLE_DEVICES": chosen[0]}), ("uuid-1", {"CUDA_VISIBLE_DEVICES": chosen[1]})]
    assert backend.units() == told


def test_a_model_that_does_not_fit_is_out_of_memory(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(model: Model, variant: Variant, *, graph: bool) -> CudaModule:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cuda, "CudaModule", full)
    model = Model.from_module(nn.Identity(), {"x": np.zeros(1, np.float32)}, name="net")
    with pytest.raises(OutOfMemoryError, match="does not hold net"):
        backend.compile(model, CompileOptions())


def test_a_driver_that_is_too_old_is_refused_in_torchs_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is\n too old (found 11040).", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    cuda._availability.cache_clear()
    try:
        for _ in range(2):
            with pytest.raises(PluginError, match=r"install one for your driver.*system is too old \(found 11040\)"):
                CudaBackend()
    finally:
        cuda._availability.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_the_message_says_what_to_do() -> None:
    with pytest.raises(PluginError, match=r"needs a CUDA device: .*torch .* install one for your driver"):
        CudaBackend()

"""What ONNX Runtime's backend does beyond the contract."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from latbench.backend import CompileOptions, HasPrecision, device_of, median_per_run
from latbench.errors import CompileError, ModelError, UsageError
from latbench.measure.verify import verify_outputs
from latbench.model import Model
from latbench.model.source import as_model
from latbench.onnx_export import FallbackWarning
from latbench.testing import BackendSuite
from latbench_onnxruntime import OnnxRuntimeBackend, providers, threads
from latbench_onnxruntime.backend import CompiledSession, _own_times, _without_first

X = np.random.default_rng(0).standard_normal((1, 16, 32, 32), dtype=np.float32)


def convolutions(count: int = 8) -> Model:
    torch.manual_seed(0)
    return Model.from_module(nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(count))), {"x": X})


def identity(name: str, **inputs: np.ndarray) -> Model:
    """Return a model that came as an ONNX file with one input ``x``."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node(name, ["x"], ["y"])], "g", [value], [result])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return Model("net.onnx", inputs, onnx=lambda: data)


@pytest.mark.parametrize("optimization", ["all", "extended", "basic", "disabled"])
def test_every_optimisation_computes_the_same(optimization: str) -> None:
    options = CompileOptions(options={"optimization": optimization})
    model = convolutions()
    with OnnxRuntimeBackend().compile(model, options) as compiled:
        verify_outputs(compiled, model, "fp32")


def test_all_optimisations_are_the_default_and_faster_than_none() -> None:
    backend, model = OnnxRuntimeBackend(), convolutions()
    with (
        backend.compile(model, CompileOptions()) as fast,
        backend.compile(model, CompileOptions(options={"optimization": "disabled"})) as slow,
    ):
        assert min(fast.run() for _ in range(20)) < min(slow.run() for _ in range(20))


def test_a_misspelt_optimisation_is_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match="all, extended, basic, disabled"):
        OnnxRuntimeBackend().compile(convolutions(), CompileOptions(options={"optimization": "al"}))


def test_the_clock_is_the_callers_own_for_one_thread_and_the_walls_for_more() -> None:
    backend, model = OnnxRuntimeBackend(), convolutions()
    with (
        backend.compile(model, CompileOptions(threads=1)) as one,
        backend.compile(model, CompileOptions(threads=2)) as two,
    ):
        assert (one.clock, two.clock) == ("thread_cpu", "wall")
        assert one.run() > 0
        assert two.run() > 0


def test_a_refused_file_is_a_compile_error_that_names_the_model() -> None:
    with pytest.raises(CompileError, match=r"ONNX Runtime refuses net\.onnx: .*NoSuchOperator"):
        OnnxRuntimeBackend().compile(identity("NoSuchOperator", x=X[0, :1, 0, :4]), CompileOptions())


def test_an_input_without_sample_is_named() -> None:
    with pytest.raises(ModelError, match="no sample for its input 'x': give --input x:"):
        OnnxRuntimeBackend().compile(identity("Relu", image=X[0, :1, 0, :4]), CompileOptions())


def test_samples_belong_to_inputs_by_name_and_keep_their_values() -> None:
    left, right = np.float32([[1, 2]]), np.float32([[5, 7]])
    model = Model.from_module(Subtract(), {"left": left, "right": right})
    swapped = Model("swapped", {"right": right, "left": left}, onnx=lambda: model.onnx)
    with OnnxRuntimeBackend().compile(swapped, CompileOptions()) as compiled:
        del left, right
        compiled.run()
        np.testing.assert_array_equal(compiled.outputs()[0], [[-4, -5]])


class Subtract(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left - right


def test_inputs_that_are_not_contiguous_are_read_right() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    with OnnxRuntimeBackend().compile(Model.from_module(nn.ReLU(), {"x": x}), CompileOptions()) as compiled:
        np.testing.assert_array_equal(compiled.outputs()[0], x)


def test_a_provider_that_the_build_lacks_is_refused_with_those_that_it_has() -> None:
    options = CompileOptions(options={"provider": "cud"})
    with pytest.raises(UsageError, match="no provider 'cud': it has cpu"):
        OnnxRuntimeBackend().compile(convolutions(), options)
    with pytest.raises(UsageError, match="no provider 'cud'"):
        OnnxRuntimeBackend().device_for(options)


def test_a_providers_device_is_recorded_and_asked_for_before_anything_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An energy counter is that of the device that the options choose."""
    names = {"cpu": "CPUExecutionProvider", "coreml": "CoreMLExecutionProvider"}
    monkeypatch.setattr(providers, "installed", lambda: names)
    chosen = device_of(OnnxRuntimeBackend(), CompileOptions(options={"provider": "coreml"}))
    assert (chosen.kind, chosen.facts) == ("coreml", OnnxRuntimeBackend().device().facts)


def test_the_cpu_provider_is_the_default_and_work_is_never_sent_away() -> None:
    assert next(iter(providers.installed())) == "cpu"
    assert "azure" not in providers.installed()
    assert OnnxRuntimeBackend().device_for(CompileOptions()) == OnnxRuntimeBackend().device()


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_provider_that_falls_back_to_the_cpu_without_a_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a build for CUDA does on a machine without a driver."""
    monkeypatch.setattr(
        providers, "installed", lambda: {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    )
    with pytest.raises(CompileError, match="provider cuda of ONNX Runtime does not start here"):
        OnnxRuntimeBackend().compile(convolutions(), CompileOptions(options={"provider": "cuda"}))


class FakeSession:
    """A session that says which provider runs each operator."""

    def __init__(self, **operators: str) -> None:
        self._operators = operators

    def get_providers(self) -> list[str]:
        return ["XnnpackExecutionProvider", "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda kind=kind: [SimpleNamespace(op_type=kind)])
            for kind, name in self._operators.items()
        ]


@pytest.fixture
def xnnpack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "installed", lambda: {"xnnpack": "XnnpackExecutionProvider"})


@pytest.mark.usefixtures("xnnpack")
def test_a_model_that_runs_in_part_on_the_cpu_is_refused_or_flagged() -> None:
    session = FakeSession(Conv="XnnpackExecutionProvider", Gemm="CPUExecutionProvider")
    with pytest.raises(CompileError, match=r"leaves 1 of 2 operators of Sequential to another \(Gemm\).*fallback=yes"):
        providers.check_assignment(session, "xnnpack", convolutions(), fallback=False)
    flags = providers.check_assignment(session, "xnnpack", convolutions(), fallback=True)
    assert flags == ("1 of 2 operators not on xnnpack",)


@pytest.mark.usefixtures("xnnpack")
def test_a_model_that_runs_on_the_cpu_alone_is_refused_whatever_may_fall_back() -> None:
    session = FakeSession(Conv="CPUExecutionProvider", Gemm="CPUExecutionProvider")
    with pytest.raises(CompileError, match="runs no operator of Sequential"):
        providers.check_assignment(session, "xnnpack", convolutions(), fallback=True)


@pytest.mark.usefixtures("xnnpack")
def test_a_model_that_the_provider_runs_whole_has_no_flag() -> None:
    session = FakeSession(Conv="XnnpackExecutionProvider")
    assert providers.check_assignment(session, "xnnpack", convolutions(), fallback=False) == ()


def test_providers_are_told_to_compute_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own defaults are bf16, TF32 and fp16, where the hardware has it."""
    assert providers.arguments("openvino", 2)["precision"] == "FP32"
    assert providers.arguments("cuda", 1) == {"use_tf32": "0"}
    assert providers.arguments("qnn", 1) == {"enable_htp_fp16_precision": "0"}
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    with pytest.raises(UsageError, match="set NVIDIA_TF32_OVERRIDE=0"):
        providers.arguments("tensorrt", 1)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert providers.arguments("tensorrt", 1) == {}


@pytest.mark.skipif("openvino" not in providers.installed(), reason="pip install onnxruntime-openvino")
class TestOpenVinoProvider(BackendSuite):
    backend = f"{__name__}:OnOpenVino"

    def test_the_provider_runs_every_operator_on_the_walls_clock(self) -> None:
        model = convolutions()
        with OnOpenVino().compile(model, CompileOptions()) as compiled:
            assert (compiled.clock, compiled.flags()) == ("wall", ())
            verify_outputs(compiled, model, "fp32")


class OnOpenVino(OnnxRuntimeBackend):
    """The backend with another provider as its default, so that the contract is kept there, too."""

    def compile(self, model: Model, options: CompileOptions) -> CompiledSession:
        return super().compile(model, replace(options, options={"provider": "openvino", **options.options}))


@pytest.mark.parametrize(("spinning", "entry"), [("yes", ""), ("no", "0")])
def test_threads_spin_as_they_are_deployed_unless_told_otherwise(spinning: str, entry: str) -> None:
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.intra_op.allow_spinning", "")
    threads.Threads(2, spinning).configure(settings)
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == entry
    options, model = CompileOptions(threads=2, options={"spinning": spinning}), convolutions()
    with OnnxRuntimeBackend().compile(model, options) as compiled:
        verify_outputs(compiled, model, "fp32")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each wait for threads to fall asleep."""
    counted: list[str] = []
    monkeypatch.setattr(threads, "_wait_until_asleep", lambda: counted.append("wait"))
    monkeypatch.setattr(threads.Threads, "_awake", None)
    return counted


def test_a_session_waits_for_the_threads_of_another_and_not_for_its_own(waits: list[str]) -> None:
    first, second = threads.Threads(2, "yes"), threads.Threads(2, "yes")
    for turn in (first, first, second, second, first):
        turn.take_turn()
    assert len(waits) == 2


def test_nobody_waits_for_threads_that_do_not_spin(waits: list[str]) -> None:
    one, asleep = threads.Threads(1, "yes"), threads.Threads(2, "no")
    for turn in (one, asleep, one, asleep):
        turn.take_turn()
    assert waits == []


class FakeTime:
    """A clock on which threads spin for a given time and nothing else happens."""

    def __init__(self, spinning_s: float) -> None:
        self._spinning_s, self._now = spinning_s, 0.0

    def sleep(self, seconds: float) -> None:
        self._now += seconds

    def perf_counter(self) -> float:
        return self._now

    def process_time(self) -> float:
        return min(self._now, self._spinning_s)


@pytest.mark.parametrize(("spinning_s", "waited_s"), [(0.0, 0.001), (0.01, 0.011), (60.0, 0.1)])
def test_the_wait_ends_with_the_spinning_or_at_a_limit(
    spinning_s: float, waited_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeTime(spinning_s)
    monkeypatch.setattr(threads, "time", clock)
    threads._wait_until_asleep()
    assert clock.perf_counter() == pytest.approx(waited_s, abs=0.0015)


def test_the_shares_of_operators_do_not_follow_one_slow_run() -> None:
    warm_up, calm, disturbed = [900.0, 900.0] * 2, [1.0, 2.0], [500.0, 2.0]
    times = _without_first(warm_up + disturbed + calm * 9, 10)
    assert times == disturbed + calm * 9
    assert median_per_run(times, 10) == 3.0


def test_a_branch_takes_what_it_does_besides_the_operators_in_it() -> None:
    spans = [(0, 10), (2, 3), (5, 4), (10, 0), (10, 6), (11, 2)]
    events = [{"ts": start, "dur": took} for start, took in spans]
    assert _own_times(events) == [3, 3, 4, 0, 4, 2]
    assert sum(_own_times(events)) == 16
    assert _own_times(events[::-1]) == _own_times(events)[::-1]


@pytest.mark.parametrize(("dtype", "runs"), [(torch.float32, "fp32"), (torch.float16, "fp32"), (torch.float64, "fp64")])
def test_the_precision_is_the_one_that_runs(dtype: torch.dtype, runs: str) -> None:
    """The CPU has no convolutions of half numbers on x86, and those of other processors run what is asked for."""
    model = Model.from_module(nn.Linear(4, 4).to(dtype), torch.ones(1, 4, dtype=dtype))
    with OnnxRuntimeBackend().compile(model, CompileOptions()) as compiled:
        assert isinstance(compiled, HasPrecision)
        told = compiled.precision()
        assert told == runs or (dtype is torch.float16 and told == "fp16")
        verify_outputs(compiled, model, told)


@pytest.mark.parametrize("inside", [False, True], ids=["weights", "inside"])
def test_what_it_has_no_bfloat16_kernels_for_runs_as_float32_and_says_so(inside: bool) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(8, 8), nn.Hardswish(), nn.Linear(8, 4))
    x = torch.randn(2, 8)
    module = AsBfloat16(layers) if inside else layers.bfloat16()
    model = as_model(module, x if inside else x.bfloat16())
    with pytest.warns(FallbackWarning):
        data = model.onnx
    assert data
    with OnnxRuntimeBackend().compile(model, CompileOptions()) as compiled:
        assert isinstance(compiled, HasPrecision)
        assert "bf16" in model.precision
        assert compiled.precision() == "fp32"
        assert verify_outputs(compiled, model, "fp32") == ()


class AsBfloat16(nn.Module):
    """Computes in bfloat16 what it takes and gives in float32."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.layers(x).float()

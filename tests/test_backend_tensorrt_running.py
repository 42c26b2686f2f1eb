"""The half that needs a GPU, on a runtime and a GPU that are faked: what is called, in which order, on which memory."""

from __future__ import annotations

import ctypes
import json
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from latbench.backend import Compiled, CompileOptions, Device, HasCache, HasFlags, HasMemory, HasOperatorTimes, HasState
from latbench.devices import nvml
from latbench.errors import CompileError, MeasurementError, ModelError, OutOfMemoryError, PluginError
from latbench.model import Model

pytest.importorskip("tensorrt_rtx", reason="engines are built with tensorrt_rtx: pip install 'latbench[tensorrt-rtx]'")

from latbench_tensorrt import CacheWarning, Engine, TensorRtBackend, backend, engines
from latbench_tensorrt.caching import SharedCache
from latbench_tensorrt.engine import Layer, LoadedEngine, inspected_layers, is_mixed, other_precision
from latbench_tensorrt.library import Library, load_library
from latbench_tensorrt.running import CompiledEngine
from latbench_tensorrt.settings import Settings

trt = load_library("rtx").trt
X = np.float32([[1, 2, 3, 4]])
MODEL = Model("double", {"x": X}, onnx=lambda: b"")
LAYERS = (Layer("conv + relu", "CaskConvolution", ("c", "r"), ("fp32",)), Layer("reformat", "Reformat", (), ("fp32",)))
OPERATORS = {"c": "Conv", "r": "Relu"}
CALLS: list[str] = []
"""What happened on the fake GPU."""


class Context:
    """Writes twice ``x`` to ``y``, through the addresses that it was given."""

    profiler = None

    def __init__(self, config=None):
        self.config, self.addresses, self.shapes = config, {}, {}

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape

    def get_tensor_shape(self, name):
        return self.shapes["x"]

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        CALLS.append("enqueue")
        size = int(np.prod(self.shapes["x"]))
        x, y = (np.ctypeslib.as_array((ctypes.c_float * size).from_address(self.addresses[name])) for name in "xy")
        with np.errstate(over="ignore"):  # a warm-up reads what memory happens to hold
            y[:] = 2 * x
        if self.profiler is not None:
            self.profiler.report_layer_time("conv + relu", 0.2)
            self.profiler.report_layer_time("unknown", 0.1)
        return True


class Native:
    """A deserialised engine with input ``x`` and output ``y``, both in memory of the host."""

    num_io_tensors = 2
    device_memory_size_v2 = 2 * 2**20

    def get_tensor_name(self, index):
        return "xy"[index]

    def get_tensor_mode(self, name):
        return trt.TensorIOMode.INPUT if name == "x" else trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return trt.DataType.FLOAT

    def get_tensor_location(self, name):
        return trt.TensorLocation.HOST

    def get_engine_stat(self, stat):
        return 2**20

    def create_execution_context(self, config=None):
        return Context(config)

    def create_runtime_config(self):
        return SimpleNamespace(create_runtime_cache=RuntimeCache, set_runtime_cache=lambda cache: None)

    def create_engine_inspector(self):
        layers = [{"Name": "l", "LayerType": "kgen", "Inputs": [{"Datatype": "Float"}], "Outputs": []}]
        return SimpleNamespace(get_engine_information=lambda form: json.dumps({"Layers": layers}))


class RuntimeCache:
    given = b""

    def deserialize(self, data):
        type(self).given = data
        return data != b"refused"

    def serialize(self):
        return b"kernels"


LOG = SimpleNamespace(clear=lambda: None, words=lambda: "its words")
TENSORRT, RTX = Library("tensorrt", trt, LOG), Library("rtx", trt, LOG)


@pytest.fixture(autouse=True)
def gpu(monkeypatch, tmp_path):
    """Stand in for torch's CUDA: work happens at once, 2 ms pass between two events."""
    monkeypatch.setenv("LATBENCH_CACHE", str(tmp_path))
    CALLS.clear()
    stream = SimpleNamespace(cuda_stream=7, synchronize=lambda: CALLS.append("synchronize"))

    def event(enable_timing):
        return SimpleNamespace(record=lambda: CALLS.append("event"), synchronize=int, elapsed_time=lambda end: 2.0)

    @contextmanager
    def capture(graph, stream, capture_error_mode):
        CALLS.append("capture")
        yield

    fakes = {
        "Stream": lambda: stream,
        "Event": event,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: CALLS.append("replay")),
        "graph": capture,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(nvml, "current_uuid", lambda: "GPU-0")


def compiled(library=TENSORRT, *, model=MODEL, engine=None, layers=LAYERS, kernels=None, precision="fp32", **options):
    settings = Settings.parse(CompileOptions(precision=precision, options=options))
    loaded = LoadedEngine(Native(), engine or Engine(b"data", layers, precision, 1.0), layers, OPERATORS)
    result = CompiledEngine(library, model, loaded, settings, kernels)
    CALLS.clear()
    return result


def test_it_keeps_the_contracts():
    for contract in (Compiled, HasOperatorTimes, HasMemory, HasCache, HasFlags):
        assert isinstance(compiled(), contract)
    assert isinstance(object.__new__(TensorRtBackend), HasState)


def test_the_outputs_are_those_of_the_sample():
    with compiled(launch="enqueue") as engine:
        (y,) = engine.outputs()
        engine.run()
    np.testing.assert_array_equal(y, 2 * X)


def test_a_sample_that_is_not_contiguous_is_read_right():
    x = np.arange(6, dtype=np.float32).reshape(2, 3).T
    (y,) = compiled(model=Model("m", {"x": x}, onnx=lambda: b""), launch="enqueue").outputs()
    np.testing.assert_array_equal(y, 2 * x)


@pytest.mark.parametrize(
    ("options", "clock", "calls"),
    [
        ({}, "cuda_events", ["event", "replay", "event"]),
        ({"launch": "enqueue"}, "cuda_events", ["event", "enqueue", "event"]),
        ({"transfers": "yes"}, "cuda_events", ["event", "in", "replay", "out", "event"]),
        ({"transfers": "only"}, "cuda_events", ["event", "in", "out", "event"]),
        ({"time": "e2e"}, "wall", ["replay", "synchronize"]),
        ({"time": "e2e", "transfers": "yes"}, "wall", ["in", "replay", "out", "synchronize"]),
    ],
)
def test_a_run_does_what_the_options_say(options, clock, calls, monkeypatch):
    for name, step in (("copy_in", "in"), ("copy_out", "out")):
        monkeypatch.setattr(f"latbench_tensorrt.tensors.Tensors.{name}", lambda tensors, step=step: CALLS.append(step))
    engine = compiled(**options)
    seconds = engine.run()
    assert engine.clock == clock
    assert calls == CALLS
    assert seconds == 0.002 if clock == "cuda_events" else 0 < seconds < 1


def test_what_is_captured_has_run_before():
    settings = Settings.parse(CompileOptions())
    CompiledEngine(TENSORRT, MODEL, LoadedEngine(Native(), Engine(b"", (), "fp32", 1), (), {}), settings, None)
    assert CALLS == ["enqueue", "synchronize", "capture", "enqueue"]


def test_rtx_replays_its_own_graph_and_shares_its_kernels(tmp_path):
    shared = SharedCache(tmp_path / "k", "k")
    shared.add(b"earlier")
    engine = compiled(RTX, kernels=shared)
    assert RuntimeCache.given == b"earlier"
    assert shared.data == b"kernels"
    engine.run()
    assert CALLS == ["event", "enqueue", "event"]
    shared.data = b"refused"
    with pytest.warns(CacheWarning, match="refuses the kernels"):
        compiled(RTX, kernels=shared)


def test_operators_are_told_by_their_onnx_names():
    times = compiled().operator_times()
    assert [(t.type, t.name, pytest.approx(t.ms), t.nodes) for t in times] == [
        ("Conv+Relu", "conv + relu", 0.2, ("c", "r")),
        ("other", "unknown", 0.1, ()),
    ]


def test_memory_is_weights_activations_inputs_and_outputs():
    assert compiled().memory_mib() == pytest.approx(3 + 2 * X.nbytes / 2**20)


def test_flags_tell_of_the_cache_of_mixed_precision_and_of_company(monkeypatch):
    assert compiled().flags() == []
    assert compiled(engine=Engine(b"", (), "fp32", 1.0, cached=True)).flags() == ["cached-engine"]
    assert compiled(precision="bf16").flags() == ["mixed-precision"]
    assert compiled(layers=(Layer("conv + relu", "Conv", (), ()),)).flags() == ["precision-unseen"]
    monkeypatch.setattr(nvml, "other_processes", lambda uuid: 1)
    assert compiled().flags() == ["shared-gpu"]


def test_failures_have_the_librarys_words(monkeypatch):
    engine = compiled(launch="enqueue")
    monkeypatch.setattr(Context, "execute_async_v3", lambda context, stream: False)
    with pytest.raises(MeasurementError, match=r"TensorRT \S+ cannot run the engine: its words"):
        engine.run()
    monkeypatch.setattr(Native, "create_execution_context", lambda native: None)
    with pytest.raises(CompileError, match="cannot make a context of the engine: its words"):
        compiled()
    full = SimpleNamespace(clear=lambda: None, words=lambda: "Error Code 2: OutOfMemory (Requested size was 9 bytes.)")
    with pytest.raises(OutOfMemoryError, match="cannot make a context of the engine: Error Code 2: OutOfMemory"):
        compiled(Library("tensorrt", trt, full))


def test_samples_and_shapes_that_are_missing_are_named(monkeypatch):
    with pytest.raises(ModelError, match="no sample for its input 'x': give --input x:"):
        compiled(model=Model("m", {"image": X}, onnx=lambda: b""))
    monkeypatch.setattr(Context, "get_tensor_shape", lambda context, name: (-1, 4))
    with pytest.raises(CompileError, match="the shape of output 'y' of double depends on data"):
        compiled()
    monkeypatch.setattr(Native, "get_tensor_dtype", lambda native, name: trt.DataType.FP4)
    with pytest.raises(CompileError, match="'x' is of type FP4"):
        compiled()


@pytest.fixture
def installed(monkeypatch):
    """A backend whose runtime runs here, on an imaginary GPU, and takes what `native` gives for an engine."""
    monkeypatch.setattr(backend, "refusal", lambda runtime: "")
    facts = {"capability": "8.6", "memory_mib": 1024}
    monkeypatch.setattr(TensorRtBackend, "device", lambda backend: Device("a GPU", "cuda", facts))
    build = engines.build
    # There is no current GPU to build for.
    monkeypatch.setattr(engines, "build", lambda library, model, s, capability, t: build(library, model, s, "8.6", t))
    native = {"refused": 0}

    def deserialised(library, data):
        native["refused"] -= 1
        return None if native["refused"] >= 0 else Native()

    monkeypatch.setattr(backend, "_deserialised", deserialised)
    return TensorRtBackend(), native


def test_an_engine_that_the_runtime_refuses_is_rebuilt_once_with_a_warning(installed):
    tensorrt, native = installed
    model = Model.from_module(nn.Linear(4, 4), {"x": X})
    options = CompileOptions(options={"runtime": "rtx", "launch": "enqueue"})
    with tensorrt.compile(model, options) as first:
        assert "cached-engine" not in first.flags()
    with tensorrt.compile(model, options) as second:
        assert "cached-engine" in second.flags()
    native["refused"] = 1
    with (
        pytest.warns(CacheWarning, match="refuses the cached engine of Linear"),
        tensorrt.compile(model, options) as third,
    ):
        assert "cached-engine" not in third.flags()
    native["refused"] = 2
    with pytest.warns(CacheWarning), pytest.raises(CompileError, match="cannot load its engine of Linear"):
        tensorrt.compile(model, options)
    assert tensorrt.state()["rtx_kernel_cache"]


def test_a_gpu_that_is_full_is_out_of_memory(installed, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")

    monkeypatch.setattr(backend, "CompiledEngine", full)
    with pytest.raises(OutOfMemoryError, match="does not hold Linear: CUDA out of memory"):
        installed[0].compile(
            Model.from_module(nn.Linear(4, 4), {"x": X}),
            CompileOptions(options={"runtime": "rtx", "launch": "enqueue"}),
        )


def test_a_library_that_this_gpu_refuses_says_so_though_another_runs(installed, monkeypatch):
    monkeypatch.setattr(backend, "refusal", lambda runtime: "TensorRT-RTX 1 says: no such GPU.")
    with pytest.raises(PluginError, match=r"option runtime=rtx .* says: no such GPU\. Choose another one"):
        installed[0].compile(MODEL, CompileOptions(options={"runtime": "rtx"}))


def tensor(kind, name="t"):
    return {"Name": name, kind[0]: kind[1]}


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        (("Format/Datatype", "Row major linear FP32"), "fp32"),
        (("Format/Datatype", "Channel major FP16 format where channel % 8 == 0"), "fp16"),
        (("Format/Datatype", "Half NCHW"), "fp16"),
        (("Format/Datatype", "Thirty-two wide channel vectorized row major Int8 format"), "int8"),
        (("Datatype", "BFloat16"), "bf16"),
        (("DataType", "Float"), "fp32"),
    ],
)
def test_the_inspector_of_every_version_is_understood(kind, precision):
    entry = {
        "Name": "n",
        "LayerType": "CaskConvolution",
        "Inputs": [tensor(kind)],
        "Outputs": [tensor(kind)],
        "TacticName": "t",
        "Metadata": "[ONNX Layer: a/Conv]\u001e[ONNX Layer: b]",
    }
    information = json.dumps({"Layers": ["a name alone", entry], "Bindings": []})
    assert inspected_layers(information) == (Layer("n", "CaskConvolution", ("a/Conv", "b"), (precision,), "t"),)


def layer(*precisions, node="c", tactic=""):
    return Layer(f"{node} {precisions}", "kgen", (node,), precisions, tactic)


@pytest.mark.parametrize(
    ("precision", "right", "wrong"),
    [
        (
            "fp32",
            [layer("fp32"), layer(node="shape")],
            [layer("fp16"), layer("fp32", tactic="sm80_tf32f32_x"), layer("int8")],
        ),
        ("tf32", [layer("fp32", tactic="sm80_tf32f32_x")], [layer("fp16"), layer("fp32", "bf16", node="r")]),
        (
            "fp16",
            [layer("fp16"), layer("fp32", "fp16"), layer("fp32", node="r")],
            [layer("fp32"), layer("int8", "fp16")],
        ),
        ("bf16", [layer("bf16"), layer("fp32", node="r")], [layer("fp32"), layer("fp16", node="r")]),
        ("int8", [layer("int8"), layer("fp32")], []),
    ],
)
def test_the_layers_of_another_precision_are_found(precision, right, wrong):
    assert other_precision(right, OPERATORS, precision) == []
    for bad in wrong:
        assert other_precision([*right, bad], OPERATORS, precision) == [bad]


def test_int8_of_which_nothing_is_left_is_found():
    assert other_precision([layer("fp32"), layer("fp32", node="r")], OPERATORS, "int8") == [layer("fp32")]


def test_only_narrow_engines_are_mixed():
    assert is_mixed([layer("fp16"), layer("fp32")], "fp16")
    assert not is_mixed([layer("fp16"), layer("fp32", "fp16"), layer()], "fp16")
    assert not is_mixed([layer("fp32")], "fp32")

"""Engines are built for real with TensorRT-RTX, without a GPU: parsed, built, inspected, serialised."""

from __future__ import annotations

import gc
from importlib.util import find_spec

import numpy as np
import onnx
import psutil
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from latbench import plugins
from latbench.backend import CompileOptions
from latbench.errors import CompileError, ModelError, PluginError, UsageError
from latbench.model import Model
from latbench.records.subjects import architecture_model

pytest.importorskip("tensorrt_rtx", reason="engines are built with tensorrt_rtx: pip install 'latbench[tensorrt-rtx]'")

import latbench.spaces.darts.genotype
import latbench.spaces.nasbench201.cell
from latbench_tensorrt import TensorRtBackend, build_engine, building
from latbench_tensorrt.backend import refusal

RTX = {"runtime": "rtx"}
AMPERE = "8.6"
SPACES = {
    "darts": {"cells": 3, "channels": 4, "image": 16},
    "nasbench201": {"cells": 1, "channels": 4, "image": 16},
}
OPERATIONS = {
    "darts": latbench.spaces.darts.genotype.OPERATIONS[1:],  # no genotype keeps an edge of "none"
    "nasbench201": latbench.spaces.nasbench201.cell.OPERATIONS,
}
X = np.random.default_rng(0).standard_normal((1, 3, 16, 16), dtype=np.float32)


def rtx(precision="fp32", **options):
    return CompileOptions(precision=precision, options={**RTX, **options})


def convolutions():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10)
    return Model.from_module(nn.Sequential(*layers), {"x": X})


def live_convolutions(model):
    """Return the names of the convolutions that an output depends on: a NAS-Bench-201 cell may have others."""
    graph = onnx.load_model_from_string(model.onnx).graph
    needed, names = {value.name for value in graph.output}, set()
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            names |= {node.name} if node.op_type == "Conv" else set()
    return names


def onnx_model(nodes, shape, *, inputs=None, constants=()):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Model("net.onnx", inputs or {"x": X}, onnx=file.SerializeToString)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("space", SPACES)
def test_random_networks_are_built_in_the_precision_asked_for(space, precision):
    searched = plugins.configure(plugins.SPACES, space, SPACES[space])
    networks = searched.sample(25, seed=1)
    assert [kind for kind in OPERATIONS[space] if not any(kind in str(network) for network in networks)] == []
    for index, network in enumerate(networks):
        model = architecture_model(searched, network)
        engine = build_engine(model, rtx(precision), capability=AMPERE)
        assert len(engine.data) > 10_000
        assert engine.build_ms > 0
        # Every floating-point tensor of every layer: more than the backend itself demands.
        assert {p for layer in engine.layers for p in layer.precisions} == {precision}, network
        built = {node for layer in engine.layers for node in layer.nodes}
        assert live_convolutions(model) <= built, network
        if index == 5:
            gc.collect()
            before = psutil.Process().memory_info().rss
    gc.collect()
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_other_precisions_are_built(precision):
    engine = build_engine(convolutions(), rtx(precision), capability=AMPERE)
    multiplying = [layer for layer in engine.layers if {"0/Conv", "4/Gemm"} & {*layer.nodes}]
    assert len(multiplying) >= 2
    assert all(("fp32" if precision == "tf32" else precision) in layer.precisions for layer in multiplying)


def quantised():
    """Return a convolution whose inputs and weights are int8, as quantisers write it."""
    scales = {"s": np.float32(0.02), "z": np.int8(0), "w": np.ones((8, 3, 3, 3), np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantise"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"], "weights"),
        helper.make_node("Conv", ["d", "v"], ["y"], "conv"),
    ]
    return onnx_model(nodes, [1, 3, 16, 16], constants=scales)


def test_int8_is_what_a_quantised_file_asks_for():
    engine = build_engine(quantised(), rtx("int8"), capability=AMPERE)
    assert any("int8" in layer.precisions and "conv" in layer.nodes for layer in engine.layers)
    with pytest.raises(UsageError, match="no QuantizeLinear and DequantizeLinear nodes, which int8 needs: quantise it"):
        build_engine(convolutions(), rtx("int8"), capability=AMPERE)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_of_another_precision_is_refused_and_the_layers_are_named(precision):
    with pytest.raises(CompileError, match=rf"has not built net.onnx in {precision}: .*conv.* \(.*int8.*\): ask for"):
        build_engine(quantised(), rtx(precision), capability=AMPERE)


def test_an_unsupported_operator_is_named_with_its_node():
    nodes = [helper.make_node("Relu", ["x"], ["h"], "relu"), helper.make_node("Det", ["h"], ["y"], "block/det")]
    with pytest.raises(CompileError, match=r"cannot parse net.onnx: operator 'Det' of node 'block/det' \(UNSUPPORTED"):
        build_engine(onnx_model(nodes, [1, 3, 16, 16]), rtx(), capability=AMPERE)
    nodes[1] = helper.make_node("NoSuch", ["h"], ["y"])
    with pytest.raises(CompileError, match="operator 'NoSuch' of node 1 "):
        build_engine(onnx_model(nodes, [1, 3, 16, 16]), rtx(), capability=AMPERE)


def test_a_free_dimension_takes_the_size_of_its_sample():
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    engines = [
        build_engine(onnx_model(nodes, shape, inputs={"x": X}), rtx(), capability=AMPERE)
        for shape in ([1, 3, 16, 16], ["batch", 3, "height", "width"])
    ]
    assert [layer.nodes for layer in engines[0].layers] == [layer.nodes for layer in engines[1].layers] == [("relu",)]
    with pytest.raises(ModelError, match="no sample for its input 'x': give --input x:"):
        build_engine(onnx_model(nodes, ["n", 3, 16, 16], inputs={"image": X}), rtx(), capability=AMPERE)


def test_a_node_without_a_name_is_checked_too():
    weights = {"w": np.ones((4, 3, 3, 3), np.float32)}
    model = onnx_model([helper.make_node("Conv", ["x", "w"], ["y"])], [1, 3, 16, 16], constants=weights)
    engine = build_engine(model, rtx("fp16"), capability=AMPERE)
    assert any(layer.operators({"node_of_y": "Conv"}) == ("Conv",) for layer in engine.layers)


def test_an_engine_for_every_gpu_from_ampere_on_is_the_default_without_one():
    portable, ampere = (build_engine(convolutions(), rtx(), capability=c) for c in ("", AMPERE))
    assert portable.data != ampere.data
    with pytest.raises(UsageError, match=r"cannot build for compute capability 9\.9: choose one of .*SM86"):
        build_engine(convolutions(), rtx(), capability="9.9")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lunch": "graph"}, "no option 'lunch': did you mean 'launch'"),
        ({"launch": "graf"}, "choose one of graph, enqueue"),
        ({"runtime": "trt"}, "choose one of tensorrt, rtx"),
        ({"optimization_level": "6"}, "choose one of 0, 1, 2, 3, 4, 5"),
        ({"workspace_mib": "0"}, "workspace_mib=0 .*: give a whole number of MiB"),
        ({"workspace_mib": "1.5"}, "workspace_mib=1.5 .*: give a whole number of MiB"),
    ],
)
def test_a_wrong_option_is_refused_with_the_choices(options, message):
    with pytest.raises(UsageError, match=message):
        build_engine(convolutions(), rtx(**options), capability=AMPERE)


def test_an_unknown_precision_is_refused_with_the_choices():
    with pytest.raises(UsageError, match="builds fp32, tf32, fp16, bf16, int8, not fp3"):
        build_engine(convolutions(), rtx("fp3"), capability=AMPERE)


@pytest.mark.skipif(bool(find_spec("tensorrt")), reason="TensorRT is installed")
def test_a_library_that_is_missing_is_named_with_its_extra():
    with pytest.raises(PluginError, match=r"needs 'tensorrt': pip install 'latbench\[tensorrt\]'"):
        build_engine(convolutions(), CompileOptions(options={"runtime": "tensorrt"}))


def test_the_settings_of_a_build_reach_the_library(monkeypatch):
    seen = []
    monkeypatch.setattr(building, "_fix_shapes", lambda builder, network, config, model: seen.append(config))
    for options in (rtx(), rtx("tf32", optimization_level="1", workspace_mib="64")):
        build_engine(convolutions(), options, capability=AMPERE)
    trt = pytest.importorskip("tensorrt_rtx")
    assert [config.get_flag(trt.BuilderFlag.TF32) for config in seen] == [False, True]
    assert [config.builder_optimization_level for config in seen] == [3, 1]
    assert (
        seen[1].get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)
        == 64 * 2**20
        < seen[0].get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)
    )


@pytest.mark.skipif(not refusal("rtx"), reason="TensorRT-RTX runs on this GPU")
def test_where_nothing_runs_the_message_has_the_librarys_words_and_the_remedy():
    with pytest.raises(PluginError, match=r"has no CUDA device that it runs .*build_engine builds engines here"):
        TensorRtBackend()
    assert "TensorRT-RTX" in refusal("rtx")
    assert "/_src/" not in refusal("rtx")
    if not torch.cuda.is_available():
        assert "CUDA driver version is insufficient" in refusal("rtx")

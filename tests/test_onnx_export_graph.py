"""The direct ONNX writer: how it names and shares what it writes, and what it does where it cannot write."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from latbench.errors import ModelError
from latbench.onnx_export import FallbackWarning, export_onnx, writes
from latbench.onnx_export.graph import WRITERS
from latbench.spaces.darts import DartsSpace
from latbench.spaces.nasbench201 import NasBench201Space
from tests.test_onnx_export import Lambda, assert_same_outputs, image, operators, run


def test_several_inputs_keep_their_names_and_types():
    module = Lambda(lambda m, tokens, x: m.table(tokens) + x, table=nn.Embedding(7, 4)).eval()
    inputs = {"tokens": np.array([[1, 2, 6]]), "x": image(1, 3, 4)}
    data = export_onnx(module, inputs)
    model = onnx.load_model_from_string(data)
    assert [(value.name, value.type.tensor_type.elem_type) for value in model.graph.input] == [("tokens", 7), ("x", 1)]
    expected = module(*map(torch.from_numpy, inputs.values())).detach().numpy()
    np.testing.assert_allclose(run(data, inputs)[0], expected, rtol=1e-6)


def test_an_input_may_be_called_like_a_parameter():
    model = export_onnx(Lambda(lambda m, x: m.x + x, x=nn.Parameter(torch.ones(3))), {"x": image(3)})
    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)


def test_operators_and_weights_are_named_after_modules():
    module = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Flatten(), nn.Linear(16, 2))
    model = assert_same_outputs(module, image(1, 3, 2, 2))
    assert [node.name for node in model.graph.node] == ["0.0/Conv", "0.1/Relu", "1/Reshape", "2/Gemm"]
    assert {"0.0.weight", "0.0.bias", "2.weight", "2.bias"} < {weight.name for weight in model.graph.initializer}


def test_weights_are_shared_where_the_module_shares_them():
    layer = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    shared = assert_same_outputs(nn.Sequential(layer, nn.ReLU(), layer), image(1, 4, 5, 5))
    assert len(shared.graph.initializer) == 2
    tied = nn.Sequential(layer[0], nn.BatchNorm2d(4), layer[0], nn.BatchNorm2d(4))
    assert len(assert_same_outputs(tied, image(1, 4, 5, 5)).graph.initializer) == 4


def test_equal_weights_are_not_shared():
    layers = [nn.Conv2d(4, 4, 1, bias=False) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    assert len(assert_same_outputs(nn.Sequential(*layers), image(1, 4, 5, 5)).graph.initializer) == 2


def test_batch_norm_is_not_folded_into_a_convolution_that_others_read():
    def forward(m, x):
        y = m.conv(x)
        return m.bn(y) + y

    module = Lambda(forward, conv=nn.Conv2d(3, 4, 1), bn=nn.BatchNorm2d(4))
    assert operators(assert_same_outputs(module, image(1, 3, 5, 5))) == ["Conv", "BatchNormalization", "Add"]


def test_batch_norm_is_not_folded_through_another_name_of_a_tensor():
    def forward(m, x):
        y = m.conv(x)
        return m.bn(F.dropout(y, training=False)) + y

    module = Lambda(forward, conv=nn.Conv2d(3, 4, 1), bn=nn.BatchNorm2d(4))
    assert operators(assert_same_outputs(module, image(1, 3, 5, 5))) == ["Conv", "BatchNormalization", "Add"]


def test_equal_modules_give_equal_bytes():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    assert export_onnx(module, {"x": image(1, 3, 5, 5)}) == export_onnx(module, {"x": image(1, 3, 5, 5)})


def test_what_the_writer_does_not_know_falls_back_and_is_named():
    module = nn.Sequential(nn.Conv2d(3, 3, 1), Lambda(lambda m, x: torch.atan2(x, x + 1))).eval()
    inputs = {"x": image(1, 3, 4, 4)}
    with pytest.warns(FallbackWarning, match=r"no ONNX writer for torch.atan2 in module '1'"):
        data = export_onnx(module, inputs)
    expected = module(torch.from_numpy(inputs["x"])).detach().numpy()
    np.testing.assert_allclose(run(data, inputs)[0], expected, rtol=1e-5, atol=1e-6)


def test_what_no_exporter_can_write_is_a_model_error():
    module = Lambda(lambda m, x: x if x.sum() > 0 else -x).eval()
    with (
        pytest.warns(FallbackWarning, match="cannot be traced"),
        pytest.raises(ModelError, match="cannot be written as ONNX"),
    ):
        export_onnx(module, {"x": image(1, 2)})


def test_one_function_teaches_the_writer_an_operator(monkeypatch):
    monkeypatch.setattr("latbench.onnx_export.graph.WRITERS", dict(WRITERS))

    @writes(torch.cumsum, torch.Tensor.cumsum)
    def cumsum(graph, x, dim):
        return graph.add("CumSum", x, graph.scalar(dim, torch.int64))

    assert_same_outputs(Lambda(lambda m, x: x.cumsum(1)), image(2, 8))


@pytest.mark.parametrize(
    "space", [DartsSpace(cells=3, channels=4, image=8), NasBench201Space(cells=1, channels=4, image=8)]
)
def test_networks_of_the_search_spaces(space):
    for architecture in space.sample(3, seed=0):
        assert_same_outputs(space.build(architecture), image(2, 3, space.image, space.image))


def test_without_onnxscript_the_fallback_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.warns(FallbackWarning), pytest.raises(ModelError, match="pip install onnxscript"):
        export_onnx(Lambda(lambda m, x: torch.atan2(x, x + 1)).eval(), {"x": image(1, 2)})

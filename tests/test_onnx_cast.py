"""ONNX files in another precision: what is cast computes the same, what must stay float32 stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from latbench import plugins
from latbench.errors import ModelError, UsageError
from latbench.model import Model
from latbench.model.onnx_cast import cast_onnx, widen_onnx
from latbench.records.subjects import architecture_model

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16


def graph_of(nodes, inputs, outputs, constants=(), functions=()):
    """Return an ONNX file; values are given as name -> (type, shape), constants as name -> array."""
    values = [
        [helper.make_tensor_value_info(name, *value) for name, value in some.items()] for some in (inputs, outputs)
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    graph = helper.make_graph(nodes, "g", *values, weights)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions).SerializeToString()


def run(data, **inputs):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    types = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
    feeds = {v.name: inputs[v.name].astype(types.get(v.type, inputs[v.name].dtype)) for v in session.get_inputs()}
    return session.run(None, feeds)


def types_of(data):
    """Return the element types of all values, and have ONNX check that every operator takes what it is given."""
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        t.name: t.data_type for t in model.graph.initializer
    }


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)

    def forward(self, x):
        return torch.softmax(self.layer(x), -1)


class Upsample(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return nn.functional.interpolate(self.conv(x), scale_factor=2.0, mode="bilinear", align_corners=False)


def space_model(name, **config):
    space = plugins.configure(plugins.SPACES, name, config)
    return architecture_model(space, space.sample(1, seed=3)[0])


def module_model(module, *shape):
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return Model.from_module(module(), {"x": x})


@pytest.mark.parametrize(
    "build",
    [
        lambda: space_model("darts", cells=3, channels=4, image=16),
        lambda: space_model("nasbench201", cells=1, channels=4, image=16),
        lambda: module_model(Transformer, 1, 8, 16),
        lambda: module_model(Upsample, 1, 3, 8, 8),
    ],
    ids=["darts", "nasbench201", "transformer", "resize"],
)
def test_fp16_computes_the_same_to_its_precision(build):
    model = build()
    data = cast_onnx(model.onnx, "fp16")
    (expected,), (given_,) = run(model.onnx, **model.inputs), run(data, **model.inputs)
    assert given_.dtype == np.float16
    np.testing.assert_allclose(given_, expected, atol=1e-2 * np.abs(expected).max())
    assert not np.array_equal(given_, expected)


def test_of_a_network_every_float_is_narrow():
    types = types_of(cast_onnx(module_model(Upsample, 1, 3, 8, 8).onnx, "fp16"))
    assert set(types.values()) == {FLOAT16, TensorProto.INT64}


def test_bf16_takes_the_same_tensors():
    model = module_model(Upsample, 1, 3, 8, 8)
    single, half, brain = (
        onnx.load_model_from_string(data)
        for data in (model.onnx, cast_onnx(model.onnx, "fp16"), cast_onnx(model.onnx, "bf16"))
    )
    assert len(half.SerializeToString()) == len(brain.SerializeToString()) < len(single.SerializeToString())
    assert [t.data_type == FLOAT for t in half.graph.initializer] == [
        t.data_type == FLOAT for t in brain.graph.initializer
    ]
    assert {v.type.tensor_type.elem_type for v in brain.graph.input} == {TensorProto.BFLOAT16}


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_bf16_rounds_as_torch_does(values):
    x = np.array(values, np.float32)
    data = graph_of(
        [helper.make_node("Add", ["x", "c"], ["y"])], {"x": (FLOAT, x.shape)}, {"y": (FLOAT, x.shape)}, {"c": x}
    )
    (constant,) = onnx.load_model_from_string(cast_onnx(data, "bf16")).graph.initializer
    expected = torch.from_numpy(x).to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    assert constant.raw_data == expected


def test_constants_beyond_float16_become_its_largest_number_and_infinities_stay():
    c = np.array([-1e9, 70000, np.inf, 1], np.float32)
    data = graph_of([helper.make_node("Add", ["x", "c"], ["y"])], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}, {"c": c})
    (y,) = run(cast_onnx(data, "fp16"), x=np.zeros(4, np.float32))
    np.testing.assert_array_equal(y, [-65504, 65504, np.inf, 1])


def test_a_constant_that_is_read_as_both_is_written_as_both():
    nodes = [
        helper.make_node("Resize", ["x", "", "s"], ["r"], mode="nearest"),
        helper.make_node("Mul", ["r", "m"], ["p"]),
        helper.make_node("ReduceSum", ["s"], ["t"], keepdims=0),
        helper.make_node("Mul", ["p", "t"], ["y"]),
    ]
    constants = {"s": np.float32([1, 2]), "m": np.float32(3)}
    data = graph_of(nodes, {"x": (FLOAT, [1, 2])}, {"y": (FLOAT, [1, 4])}, constants)
    cast = cast_onnx(data, "fp16")
    assert {n.op_type for n in onnx.load_model_from_string(cast).graph.node} == {"Resize", "Mul", "ReduceSum"}
    (y,) = run(cast, x=np.float32([[1, 2]]))
    np.testing.assert_array_equal(y, [[9, 9, 18, 18]])


def test_an_operator_of_float32_alone_stands_between_casts():
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("DynamicQuantizeLinear", ["h"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Add", ["d", "h"], ["y"]),
    ]
    data = graph_of(nodes, {"x": (FLOAT, [4])}, {"y": (FLOAT, [4]), "q": (TensorProto.UINT8, [4])})
    cast = cast_onnx(data, "fp16")
    types = types_of(cast)
    assert [types[name] for name in "xhyd"] == [FLOAT16] * 4
    assert types["q"] == TensorProto.UINT8
    x = np.float32([-1, 0, 1, 2])
    np.testing.assert_allclose(run(cast, x=x)[0], run(data, x=x)[0], atol=2e-2)
    # One cast in front serves every reader.
    assert sum(n.op_type == "Cast" and n.input[0] == "h" for n in onnx.load_model_from_string(cast).graph.node) == 1


def test_types_that_attributes_name_become_narrow_and_integers_stay():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=numpy_helper.from_array(np.float32([1]))),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Constant", [], ["index"], value=numpy_helper.from_array(np.int64([1, 0]))),
        helper.make_node("Cast", ["index"], ["offset"], to=FLOAT),
        helper.make_node("Gather", ["x", "index"], ["turned"]),
        helper.make_node("Sum", ["turned", "ones", "two", "offset"], ["y"]),
    ]
    cast = cast_onnx(graph_of(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}), "fp16")
    types = types_of(cast)
    assert {types[name] for name in ("ones", "two", "offset", "turned", "y")} == {FLOAT16}
    assert types["index"] == types["shape"] == TensorProto.INT64
    np.testing.assert_array_equal(run(cast, x=np.float32([5, 7]))[0], [11, 8])


def test_functions_of_a_file_are_cast_too():
    double = helper.make_function(
        "local", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    nodes = [helper.make_node("Double", ["x"], ["y"], domain="local")]
    cast = cast_onnx(graph_of(nodes, {"x": (FLOAT, [1])}, {"y": (FLOAT, [1])}, functions=[double]), "fp16")
    np.testing.assert_array_equal(run(cast, x=np.float32([3]))[0], np.float16([6]))


def test_what_cannot_be_cast_is_named():
    io = {"x": (FLOAT, [1])}, {"y": (FLOAT, [1])}
    with pytest.raises(ModelError, match=r"Acme \(node 'a/b'\) is not an operator of ONNX"):
        cast_onnx(graph_of([helper.make_node("Acme", ["x"], ["y"], "a/b", domain="local")], *io), "fp16")
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "branch", [], [helper.make_tensor_value_info("z", FLOAT, [1])]
    )
    choice = helper.make_node("If", ["c"], ["y"], "choose", then_branch=branch, else_branch=branch)
    with pytest.raises(ModelError, match=r"If \(node 'choose'\) holds a graph of its own"):
        cast_onnx(graph_of([choice], {**io[0], "c": (TensorProto.BOOL, [])}, io[1]), "fp16")
    with pytest.raises(UsageError, match="cannot be cast to 'int8': choose one of fp16, bf16"):
        cast_onnx(b"", "int8")


def test_bfloat16_becomes_float32_in_branches_and_constants_too():
    value = onnx.TensorProto(data_type=TensorProto.BFLOAT16, dims=[2], raw_data=bytes.fromhex("c03f4040"))  # 1.5, 3
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=value)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.BFLOAT16, [2])],
    )
    data = graph_of(
        [
            helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch),
            helper.make_node("Cast", ["x"], ["w"], to=TensorProto.BFLOAT16),
            helper.make_node("Mul", ["w", "y"], ["z"]),
        ],
        {"flag": (TensorProto.BOOL, []), "x": (FLOAT, [2])},
        {"z": (TensorProto.BFLOAT16, [2])},
    )
    (z,) = run(widen_onnx(data), flag=np.array(True), x=np.array([2.0, 4.0], np.float32))
    assert z.dtype == np.float32
    np.testing.assert_array_equal(z, [3.0, 12.0])

"""What a network is called with: values that decide the work, nested samples, strides, half precision, the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from latbench.backend import CompileOptions
from latbench.errors import ModelError, UsageError
from latbench.measure.verify import verify_outputs
from latbench.model import Model
from latbench.model.inputs import InputRequest, SampleNote
from latbench.model.source import as_model, open_model
from latbench_onnxruntime import OnnxRuntimeBackend
from latbench_torch.cpu import CpuBackend

HERE = "tests.test_model_inputs"
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Inputs = Mapping[str, tuple[int, Sequence[int | str | None] | None]]


def onnx_file(
    path: Path,
    nodes: list[Any],
    inputs: Inputs,
    weights: dict[str, Any] | None = None,
    *,
    result: int = FLOAT,
    **saving: Any,
) -> str:
    """Write a file whose only output is ``y``, of no declared shape."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    output = helper.make_tensor_value_info("y", result, None)
    graph = helper.make_graph(nodes, "g", values, [output], constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path, **saving)
    return str(path)


def run(source: str | Model, *inputs: str, batch: int | None = None) -> np.ndarray:
    model = open_model(source, inputs, batch=batch) if isinstance(source, str) else source
    with OnnxRuntimeBackend().compile(model, CompileOptions()) as compiled:
        compiled.run()
        return np.asarray(compiled.outputs()[0])


# Inputs whose values decide the work


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("x:1x3x8x8:float32", (), InputRequest("x", (1, 3, 8, 8), "float32")),
        ("x:0x3", (), InputRequest("x", (0, 3))),
        ("x:0:1x3", (), InputRequest("x:0", (1, 3))),
        ("x:0", ("x:0",), None),
        ("x:0=5", ("x:0",), InputRequest("x:0", value="5")),
        ("x:0:2:int64=-5", ("x:0", "x"), InputRequest("x:0", (2,), "int64", "-5")),
        ("a=b:3=1", ("a=b",), InputRequest("a=b", (3,), value="1")),
        ("steps=50", (), InputRequest("steps", value="50")),
        ("steps::int64=50", (), InputRequest("steps", None, "int64", "50")),
        ("m=@a/m.npy", (), InputRequest("m", file=Path("a/m.npy"))),
        ("m:2:bool=@m.npy", (), InputRequest("m", (2,), "bool", file=Path("m.npy"))),
        ("x", (), None),
        ("x:", (), None),
        ("x=", (), None),
        ("x:int64", (), None),
        ("x:1x", (), None),
        ("x:-1x3", (), None),
    ],
)
def test_an_input_is_a_name_with_a_shape_a_type_or_a_value(
    text: str, names: tuple[str, ...], expected: InputRequest | None
) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="write for example"):
            InputRequest.parse(text, names)
    else:
        assert InputRequest.parse(text, names) == expected


@pytest.fixture
def steps(tmp_path: Path) -> str:
    """A loop whose trip count is an input, each step of which adds one."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["go"]), helper.make_node("Add", ["s", "one"], ["t"])],
        "body",
        [value("i", INT64, []), value("c", BOOL, []), value("s", FLOAT, [1])],
        [value("go", BOOL, []), value("t", FLOAT, [1])],
    )
    node = helper.make_node("Loop", ["steps", "", "x"], ["y"], body=body)
    inputs: Inputs = {"x": (FLOAT, [1]), "steps": (INT64, [])}
    return onnx_file(tmp_path / "steps.onnx", [node], inputs, {"one": np.ones(1, np.float32)})


def test_a_value_decides_the_work_and_what_is_left_to_latbench_is_a_note(steps: str, tmp_path: Path) -> None:
    assert run(steps, "steps=50") - run(steps, "steps=20") == 30
    np.save(tmp_path / "n.npy", np.int64(7))
    assert run(steps, f"steps=@{tmp_path / 'n.npy'}", "x:1=2") == 9
    with pytest.warns(SampleNote, match=r"input 'steps' is int64, .*: it holds ones; give --input steps=VALUE"):
        assert run(steps, "x:1=2") == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps=2.5", "input 'steps' is int64, and '2.5' is none"),
        ("steps=99999999999999999999", "give a number that fits"),
        ("steps:1=2", "is a scalar, not 1"),
        ("steps=@none.npy", "cannot read none.npy for input 'steps'"),
        ("x=1e39", "is float32, and '1e39' is none"),
        ("stpes=5", "has no input 'stpes': did you mean 'steps'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(text: str, message: str, steps: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_model(steps, [text, "steps=1"] if not text.startswith("steps") else [text])


def test_a_file_that_holds_no_array_is_refused(steps: str, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(UsageError, match=r"text.npy for input 'steps' is no file of numpy.save"):
        open_model(steps, [f"steps=@{tmp_path / 'text.npy'}"])
    np.savez(tmp_path / "two.npz", a=np.ones(1), b=np.ones(1))
    with pytest.raises(UsageError, match="holds several arrays"):
        open_model(steps, [f"steps=@{tmp_path / 'two.npz'}"])


def test_indices_of_a_table_are_drawn_among_its_rows(tmp_path: Path) -> None:
    table = np.arange(1000, dtype=np.float32)[:, None]
    nodes = [
        helper.make_node("Cast", ["ids"], ["long"], to=INT64),
        helper.make_node("Gather", ["table", "long"], ["y"]),
    ]
    path = onnx_file(tmp_path / "ids.onnx", nodes, {"ids": (TensorProto.INT32, [1, 64])}, {"table": table})
    with pytest.warns(SampleNote, match="random numbers below 1000"):
        rows = run(path)
    assert len(np.unique(rows)) > 40
    assert rows.max() > 900


def test_an_empty_output_is_told(tmp_path: Path) -> None:
    node = helper.make_node("Range", ["zero", "n", "one"], ["y"])
    weights = {"zero": np.int64(0), "one": np.int64(1)}
    model = open_model(onnx_file(tmp_path / "range.onnx", [node], {"n": (INT64, [])}, weights, result=INT64), ["n=0"])
    with OnnxRuntimeBackend().compile(model, CompileOptions()) as compiled:
        (note,) = verify_outputs(compiled, model, "fp32")
    assert "output 0 of range.onnx is empty" in note


# Samples as they are given


class Structured(nn.Module):
    def forward(
        self, pair: list[Tensor], box: dict[str, Any], *, twice: bool = False, bias: Tensor | None = None
    ) -> Any:
        y = pair[0] - 2 * pair[1] + box["deep"][0]
        y = y if bias is None else y + bias
        return {"y": 2 * y if twice else y}


PAIR = [torch.full((1, 4), 3.0), torch.full((1, 4), 1.0)]
STRUCTURED = {"pair": PAIR, "box": {"deep": (torch.ones(4),), "unused": None}, "twice": True, "bias": torch.ones(1)}


def structured() -> tuple[nn.Module, dict[str, Any]]:
    return Structured(), STRUCTURED


@pytest.mark.filterwarnings("ignore::latbench.onnx_export.FallbackWarning")
def test_lists_dicts_plain_values_and_keywords_reach_the_module_as_they_are() -> None:
    model = open_model(f"{HERE}:structured")
    assert list(model.inputs) == ["pair.0", "pair.1", "box.deep.0", "bias"]
    np.testing.assert_array_equal(model.reference_outputs()[0], np.full((1, 4), 6.0))
    with OnnxRuntimeBackend().compile(model, CompileOptions()) as compiled:
        assert verify_outputs(compiled, model, "fp32") == ()
    np.testing.assert_array_equal(
        open_model(f"{HERE}:structured", ["pair.1:1x4=0"]).reference_outputs()[0], np.full((1, 4), 10.0)
    )
    assert as_model(Structured(), STRUCTURED).described()["bias"] == "1:float32"


def test_a_sample_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(ModelError, match=r"the sample 'pair.1' of Structured is a object: give a tensor or an array"):
        as_model(Structured(), {**STRUCTURED, "pair": [PAIR[0], object()]})


class Looks(nn.Module):
    """Notes the strides and types of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[tuple[bool, torch.dtype, torch.dtype]] = []

    def forward(self, x: Tensor) -> Tensor:
        is_last = x.is_contiguous(memory_format=torch.channels_last)
        self.seen.append((is_last, x.dtype, self.weight.dtype))
        return x * self.weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_samples_and_weights_run_as_they_are_given(dtype: torch.dtype, channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(1, 3, 8, 8).to(dtype, memory_format=layout)
    model = as_model(Looks().to(dtype), x)
    with CpuBackend().compile(model, CompileOptions()) as compiled:
        compiled.run()
        verify_outputs(compiled, model, model.precision)
    module = model.module
    assert isinstance(module, Looks)
    assert set(module.seen) == {(channels_last, dtype, dtype)}
    name = {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16", "torch.float64": "fp64"}[
        str(dtype)
    ]
    assert model.precision == name
    text = f"1x3x8x8:{str(dtype).removeprefix('torch.')}" + (":channels_last" if channels_last else "")
    assert model.described() == {"x": text}


def test_views_with_negative_strides_are_samples() -> None:
    images = np.random.default_rng(0).random((8, 8, 3), dtype=np.float32)
    flipped = np.transpose(images[:, :, ::-1], (2, 0, 1))[None]
    np.testing.assert_array_equal(as_model(nn.Identity(), flipped).reference_outputs()[0], flipped)


class HalfInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y: Tensor = self.layer(x)
        return y.float()


def test_the_precision_is_what_a_module_multiplies_in() -> None:
    assert as_model(HalfInside(), torch.ones(1, 4)).precision == "bf16"
    assert as_model(nn.Linear(4, 4), torch.ones(1, 4)).precision == "fp32"
    mixed = nn.Sequential(nn.Linear(4, 4), HalfInside())
    assert as_model(mixed, torch.ones(1, 4)).precision == "bf16+fp32"


class Doubling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2.0) + 1


def test_a_module_that_changes_its_input_leaves_the_users_alone_and_is_compared() -> None:
    x = torch.ones(2, 3)
    model = as_model(Doubling(), x)
    for backend in (CpuBackend(), OnnxRuntimeBackend()):
        with backend.compile(model, CompileOptions()) as compiled:
            compiled.run()
            compiled.run()
            assert verify_outputs(compiled, model, "fp32") == ()
    assert (x == 1).all()


class Halves(Doubling):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(float(x.max()))
        return x.mul_(0.5)


def test_every_run_of_a_module_that_changes_its_input_gets_the_sample() -> None:
    model = as_model(Halves(), torch.ones(2, 3))
    with CpuBackend().compile(model, CompileOptions()) as compiled:
        for _ in range(40):
            compiled.run()
    module = model.module
    assert isinstance(module, Halves)
    assert module.seen[-40:] == pytest.approx([1.0] * 40)


class NoReturn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


class StaysInTraining(NoReturn):
    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(True)


def test_eval_may_return_nothing_and_one_that_does_nothing_is_told() -> None:
    x = torch.ones(2, 3)
    np.testing.assert_array_equal(as_model(NoReturn(), x).reference_outputs()[0], x)
    np.testing.assert_array_equal(as_model(NoReturn, x).reference_outputs()[0], x)
    with pytest.warns(SampleNote, match="StaysInTraining stays in training mode after eval"):
        as_model(StaysInTraining(), x)


def traced(module: nn.Module) -> Any:
    return torch.jit.trace(module, torch.ones(1, 4))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("make", [torch.jit.script, traced])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_modules_of_torchscript_are_measured(make: Any) -> None:
    model = as_model(make(nn.Linear(4, 2).eval()), torch.ones(1, 4))
    with CpuBackend().compile(model, CompileOptions()) as compiled:
        compiled.run()
        assert verify_outputs(compiled, model, "fp32") == ()


# The batch


def relu(path: Path, **inputs: Sequence[int | str | None]) -> str:
    nodes = [helper.make_node("Sum", list(inputs), ["y"])]
    return onnx_file(path, nodes, {name: (FLOAT, shape) for name, shape in inputs.items()})


def test_the_batch_is_what_the_file_leaves_free_or_the_user_says(tmp_path: Path) -> None:
    named = relu(tmp_path / "a.onnx", bias=[4], x=["N", 4])
    assert open_model(named, ["x:3x4"]).batch == 3
    batched = open_model(named, batch=5)
    assert ({n: v.shape for n, v in batched.inputs.items()}, batched.batch) == ({"bias": (4,), "x": (5, 4)}, 5)
    assert open_model(relu(tmp_path / "b.onnx", x=["seq_len", 1, 4]), ["x:9x1x4"]).batch is None
    assert open_model(relu(tmp_path / "c.onnx", x=[2, 4])).batch is None
    assert open_model(relu(tmp_path / "d.onnx", x=[-1, 4]), batch=2).inputs["x"].shape == (2, 4)
    two = relu(tmp_path / "e.onnx", x=["C"], z=["batch", 4])
    with pytest.raises(ModelError, match=r"input 'x' of e.onnx has no fixed shape"):
        open_model(two, batch=3)
    assert open_model(two, ["x:4"], batch=3).inputs["z"].shape == (3, 4)


def timestep() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return nn.Bilinear(1, 8, 2), (torch.ones(16, 1), torch.ones(16, 8))


class Scaled(nn.Module):
    def forward(self, t: Tensor, x: Tensor, table: Tensor) -> Tensor:
        return x * t + table.sum()


def uneven() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Scaled(), (torch.ones(1), torch.ones(16, 8), torch.ones(5, 2))


def broadcast() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Scaled(), (torch.ones(1), torch.ones(16, 8), torch.tensor(2.0))


def test_nobody_knows_the_batch_of_a_factorys_samples_until_it_is_asked_for() -> None:
    assert open_model(f"{HERE}:timestep").batch is None
    model = open_model(f"{HERE}:timestep", batch=4)
    assert (model.batch, model.reference_outputs()[0].shape) == (4, (4, 2))
    shapes = {name: x.shape for name, x in open_model(f"{HERE}:broadcast", batch=4).inputs.items()}
    assert shapes == {"t": (1,), "x": (4, 8), "table": ()}
    with pytest.raises(ModelError, match="several first dimensions"):
        open_model(f"{HERE}:uneven", batch=4)


# Modules that are no libraries


@pytest.mark.parametrize(
    "line", ["import sys; sys.exit(3)", "import argparse; argparse.ArgumentParser().parse_args(['--no'])"]
)
def test_a_module_that_ends_the_program_when_it_is_imported_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script_of_a_user.py").write_text(line)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=r"importing 'script_of_a_user' ends the program \(SystemExit: [23]\)"):
        open_model("script_of_a_user:net")


class Fails(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "give inputs of the shapes that it takes"),
        (RuntimeError("expected scalar type Float but found Double"), "give inputs of the type that it takes"),
        (IndexError("index out of range in self"), "with values that it takes"),
        (AssertionError("Torch not compiled with CUDA enabled"), "have the factory build it on the CPU"),
        (NameError("name 'np' is not defined"), "run it alone first"),
        (ValueError("of its own"), "its own code raises this, so run it alone first"),
    ],
)
def test_the_remedy_fits_the_failure(error: Exception, remedy: str) -> None:
    with pytest.raises(ModelError, match=f"does not run on x:1:float32 .*: .*{remedy}"):
        as_model(Fails(error), torch.ones(1))


class Cache:
    """What a language model returns beside its logits: an object that holds tensors, and itself."""

    def __init__(self, *layers: tuple[Tensor, Tensor]) -> None:
        self.layers, self.length, self.itself, self.cropped = list(layers), 4, self, None

    def crop(self) -> None:
        """Do nothing."""


class Cached(nn.Module):
    """Returns a tensor and its keys and values in objects."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, past: Any = None) -> Any:
        y = self.layer(x)
        normal = torch.distributions.Normal(y, y.exp(), validate_args=False)
        return {"y": y, "past": Cache((y * 2, y * 3), (y * 4, y * 5)), "distribution": normal}


def test_tensors_in_objects_are_outputs() -> None:
    model = as_model(Cached(), {"x": torch.randn(2, 4), "past": None})
    y, *kept, mean, std = model.reference_outputs()
    np.testing.assert_array_equal(kept, [y * 2, y * 3, y * 4, y * 5])
    np.testing.assert_allclose((mean, std), (y, np.exp(y)), rtol=1e-5)
    with OnnxRuntimeBackend().compile(model, CompileOptions()) as compiled:
        assert verify_outputs(compiled, model, "fp32") == ()

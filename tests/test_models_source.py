"""What a user names to be measured: ONNX files, factories and their samples, and what can be wrong with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from benchmarks import networks
from latbench.errors import ModelError
from latbench.model import Model
from latbench.model.inputs import SampleNote
from latbench.model.source import as_model, open_model
from latbench.onnx_export import export_onnx
from tests.test_measure_models import call, onnx_file

HERE = "tests.test_models_source"


class Masked(nn.Module):
    def forward(self, ids: Tensor, mask: Tensor, scale: Tensor | None = None) -> Tensor:
        return ids * mask


def tiny() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def sampled() -> tuple[nn.Module, dict[str, Tensor]]:
    return nn.Embedding(5, 2), {"tokens": torch.tensor([[0, 4]])}


def masked() -> nn.Module:
    return Masked()


def with_depth(depth: int) -> nn.Module:
    return nn.Identity()


def failing() -> nn.Module:
    raise RuntimeError("the weights are gone")


def leaving() -> nn.Module:
    raise SystemExit(0)


def number() -> int:
    return 3


def wordy() -> nn.Module:
    class Wordy(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "a text"

    return Wordy()


def in_a_tuple() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Masked(), (torch.ones(2, 3), torch.zeros(2, 1))


class Summed(nn.Module):
    def forward(self, *xs: Tensor) -> Tensor:
        return torch.stack(xs).sum(0)


def variadic() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Summed(), (torch.ones(2), 2 * torch.ones(2))


def too_many() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return nn.Identity(), (torch.ones(1), torch.ones(1))


def loose() -> tuple[nn.Module, str]:
    return nn.Identity(), "a text"


def alone() -> tuple[nn.Module, Tensor]:
    return nn.Identity(), torch.ones(3)


def test_samples_of_a_factory_keep_their_values_and_fill_a_batch() -> None:
    opened = open_model(f"{HERE}:sampled", batch=3)
    np.testing.assert_array_equal(opened.inputs["tokens"], [[0, 4]] * 3)
    with pytest.warns(SampleNote, match="random numbers below 5, the rows of its table"):
        drawn = open_model(f"{HERE}:sampled", ["tokens:2x7"]).inputs["tokens"]
    assert drawn.dtype == np.int64
    assert 1 < len({*drawn.flat} & {*range(5)}) == len({*drawn.flat})


def test_a_factory_gives_the_same_weights_every_time_and_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again = (open_model(f"{HERE}:tiny", ["x:1x3x8x8"]).reference_outputs()[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.rand(1) == expected


def test_inputs_are_sorted_as_the_module_takes_them() -> None:
    assert list(open_model(f"{HERE}:masked", ["mask:1x1", "ids:2x3"]).inputs) == ["ids", "mask"]
    assert list(open_model(f"{HERE}:masked", ["a:1x1", "b:2x3"]).inputs) == ["a", "b"]


def test_a_batch_fills_a_free_first_dimension_and_the_type_is_the_files(tmp_path: Path) -> None:
    path = str(onnx_file(tmp_path / "free.onnx", shape=("n", 3, 8, 8)))
    assert open_model(path, batch=5).inputs["x"].shape == (5, 3, 8, 8)
    assert open_model(path, ["x:2x3x8x8"], batch=5).inputs["x"].shape == (5, 3, 8, 8)
    with pytest.raises(ModelError, match=r"\?x3x8x8\): give --input x:1x3x8x8:float32 or --batch 1"):
        open_model(path)
    with pytest.raises(ModelError, match="is 1x3x8x8, not 5x3x8x8"):
        open_model(str(onnx_file(tmp_path / "fixed.onnx")), batch=5)


def test_weights_beside_an_onnx_file_are_read_and_missed(tmp_path: Path) -> None:
    x = np.ones((1, 64), np.float32)
    data = export_onnx(nn.Linear(64, 64).eval(), {"x": x})
    path = tmp_path / "net.onnx"
    loaded = onnx.load_model_from_string(data)
    onnx.save(loaded, path, save_as_external_data=True, location="net.onnx.data", size_threshold=16)
    expected = onnxruntime.InferenceSession(data).run(None, {"x": x})[0]
    np.testing.assert_array_equal(
        onnxruntime.InferenceSession(open_model(str(path)).onnx).run(None, {"x": x})[0], expected
    )
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"weights beside .*keep both files in one folder"):
        open_model(str(path))


def test_samples_in_a_tuple_have_the_names_of_forward() -> None:
    opened = open_model(f"{HERE}:in_a_tuple")
    assert {name: x.shape for name, x in opened.inputs.items()} == {"ids": (2, 3), "mask": (2, 1)}
    np.testing.assert_array_equal(open_model(f"{HERE}:variadic").reference_outputs()[0], [3, 3])
    assert open_model(f"{HERE}:alone").inputs["input"].shape == (3,)


# What a Python program hands over


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (torch.ones(1, 3, 8, 8), ["input"]),
        (np.ones((1, 3, 8, 8), np.float32), ["input"]),
        ((torch.ones(1, 3, 8, 8),), ["input"]),
        ({"image": torch.ones(1, 3, 8, 8)}, ["image"]),
        (torch.ones(1, 3, 8, 8, requires_grad=True).to(memory_format=torch.channels_last), ["input"]),
    ],
)
def test_a_module_takes_its_samples_as_torch_does(inputs: Any, names: list[str]) -> None:
    opened = as_model(tiny(), inputs)
    assert list(opened.inputs) == names
    assert [(x.shape, x.dtype) for x in opened.inputs.values()] == [((1, 3, 8, 8), np.float32)]


def test_several_samples_of_a_module_are_sorted_as_forward_takes_them() -> None:
    ids, mask = torch.ones(2, 3), torch.zeros(2, 1)
    for inputs in ((ids, mask), {"mask": mask, "ids": ids}):
        assert {name: x.shape for name, x in Model.from_module(Masked(), inputs).inputs.items()} == {
            "ids": (2, 3),
            "mask": (2, 1),
        }


def test_a_module_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    module[1].eval()
    opened = Model.from_module(module, torch.ones(4))
    np.testing.assert_array_equal(opened.reference_outputs()[0], np.ones(4))
    assert (module.training, module[0].training, module[1].training) == (True, True, False)


def test_files_and_factories_are_models_and_samples_override_their_own(tmp_path: Path) -> None:
    free = onnx_file(tmp_path / "free.onnx", shape=("n", 3, 8, 8))
    for source in (free, str(free)):
        assert as_model(source, torch.ones(5, 3, 8, 8)).inputs["x"].shape == (5, 3, 8, 8)
    assert as_model(in_a_tuple).inputs["mask"].shape == (2, 1)
    assert as_model(in_a_tuple, (torch.ones(1, 4), torch.ones(1, 1))).inputs["ids"].shape == (1, 4)
    assert as_model(f"{HERE}:sampled").inputs["tokens"].dtype == np.int64
    model = as_model(alone)
    assert as_model(model) is model


@pytest.mark.parametrize(
    ("source", "inputs", "message"),
    [
        (tiny(), None, "the inputs of Conv2d are not known: give inputs=, a tensor or several by name"),
        (tiny, None, "the inputs of 'tiny' are not known"),
        (
            tiny(),
            torch.ones(1, 3, 8, 8, dtype=torch.bfloat16),
            "does not run on input:1x3x8x8:bfloat16.*: give inputs of the type that it takes",
        ),
        (tiny(), torch.ones(1, 3, 8, 8).double(), "does not run on input:1x3x8x8:float64"),
        (tiny(), [[1.0], [2.0, 3.0]], "gets 2 samples: its forward takes 1"),
        (tiny(), {"x": [[1.0], [2.0, 3.0]]}, "the sample 'x.0.0' of Conv2d is a float: give a tensor"),
        (tiny(), "x:1x3x8x8", "the sample 'input' of Conv2d is a str"),
        (Masked(), {"ids": torch.ones(1), "msk": torch.ones(1)}, "Masked has no input 'msk': its forward takes ids"),
        (alone, {"x": torch.ones(3)}, "has no input 'x': there is only 'input'"),
        (with_depth, torch.ones(1), "takes arguments: write a function without any"),
        (3, None, "model is of type int: give a module, a file, or a function that makes one"),
        ("net.tflite", None, "ends in .onnx or .pt2"),
    ],
)
def test_what_is_no_model_or_has_no_samples_is_explained(source: Any, inputs: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        as_model(source, inputs)


def test_the_samples_of_a_model_may_be_tensors() -> None:
    model = Model("net", {"x": torch.ones(2, 3, requires_grad=True)}, module=nn.Identity)
    assert (type(model.inputs["x"]), model.inputs["x"].dtype) == (np.ndarray, np.float32)
    np.testing.assert_array_equal(model.reference_outputs()[0], np.ones((2, 3)))


def test_a_model_has_samples_of_its_own() -> None:
    with pytest.raises(ModelError, match="the model 'Identity' has samples of its own: leave inputs out"):
        as_model(Model.from_module(nn.Identity(), torch.ones(1)), torch.ones(1))


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    module = nn.Linear(2, 2)
    module.doubled = module.weight * 2  # as weight_norm keeps what it computes
    with pytest.raises(ModelError, match=r"Linear cannot be copied .*: give a function that builds it"):
        as_model(module, torch.ones(1, 2))


MISTAKES = [
    (["missing.onnx"], "cannot read missing.onnx"),
    (["missing.pt2"], "cannot read missing.pt2"),
    (["net.tflite"], "ends in .onnx or .pt2"),
    (["net.onnx", "--out", "a.txt"], "--out a.txt is not a .json file, which compare-runs reads: name it a.json"),
    (["net.onnx", "--input", "y:1x3x8x8"], "has no input 'y': there is only 'x'"),
    (["net.onnx", "--input", "x:1x3x9x9"], "is 1x3x8x8, not 1x3x9x9"),
    (["net.onnx", "--input", "x:1x3x8x8:int64"], "is float32, not int64"),
    (["net.onnx", "--backend", "cpu"], "came as an ONNX file"),
    ([f"{HERE}:tiny"], "give --input"),
    ([f"{HERE}:tiny", "--input", "x:1x3x8x8:flaot32"], "has no type 'flaot32'"),
    ([f"{HERE}:tiny", "--input", "x:-1x3x8x8"], "name:shape:dtype"),
    ([f"{HERE}:tiny", "--input", "x:1x3x8x8", "--input", "x:1x3x8x8"], "given twice"),
    ([f"{HERE}:tiny", "--input", "x:1x4x8x8"], "does not run on x:1x4x8x8:float32 (RuntimeError"),
    ([f"{HERE}:sampled", "--input", "token:1x2"], "did you mean 'tokens'"),
    ([f"{HERE}:masked", "--input", "ids:1x2", "--input", "msk:1x2"], "has no input 'msk': its forward takes ids, mask"),
    ([f"{HERE}:masked", "--input", "ids:1x2", "--input", "scale:1x2"], "also needs 'mask'"),
    ([f"{HERE}:masked", "--input", "ids:1x2"], "missing 1 required positional argument: 'mask'"),
    ([f"{HERE}:with_depth", "--input", "x:1"], "takes arguments"),
    ([f"{HERE}:failing", "--input", "x:1"], "raised RuntimeError: the weights are gone"),
    ([f"{HERE}:leaving", "--input", "x:1"], "leaving' raised SystemExit: 0"),
    ([f"{HERE}:number", "--input", "x:1"], "returned int: return a torch.nn.Module"),
    ([f"{HERE}:HERE", "--input", "x:1"], "is a str: name a function"),
    ([f"{HERE}:wordy", "--input", "x:1"], "returns a str without a tensor: wrap it"),
    ([f"{HERE}:too_many"], "gets 2 samples: its forward takes 1"),
    ([f"{HERE}:loose"], "the sample 'input' of 'tests.test_models_source:loose' is a str: give a tensor or an array"),
    ([f"{HERE}:none_such", "--input", "x:1"], "cannot find the factory"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_explained(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    onnx_file(tmp_path / "net.onnx")
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in re.sub(r"\s+", " ", result.stderr)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("factory", "parameters"),
    [
        (networks.resnet18, 11_689_512),  # as torchvision counts them
        (networks.mobilenet_v2, 3_504_872),
        (networks.vit_tiny, 5_717_416),  # as timm does
        (networks.text_encoder, 11_104_256),
    ],
)
def test_real_networks_have_the_size_of_the_papers_and_are_written_directly(factory: Any, parameters: int) -> None:
    module, sample = factory()
    assert sum(p.numel() for p in module.parameters()) == parameters
    wrapped = Model.from_module(module, {name: value.numpy() for name, value in sample.items()})
    session = onnxruntime.InferenceSession(wrapped.onnx, providers=["CPUExecutionProvider"])
    (given,), (expected,) = session.run(None, wrapped.inputs), wrapped.reference_outputs()
    assert np.abs(given - expected).max() < 1e-4 * np.abs(expected).max()

"""Files of torch.export: what they are read as, written as ONNX as, and what they may not do while they are read."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, export, save

from latbench.errors import ModelError
from latbench.model import Model
from latbench.model.exported_program import read_program
from latbench.model.source import open_model
from latbench.onnx_export import _write
from latbench.tracing.operators import operators


class Many(nn.Module):
    """One of each operator whose arguments torch.export writes in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 8, 3, padding="same")
        self.norms = nn.Sequential(nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True))
        self.layer_norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.embedding = nn.Embedding(5, 8)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        x = F.relu6(self.norms(self.convolution(x)), inplace=True)
        x = F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)
        x = F.interpolate(F.pad(x, (1, 1, 0, 2)), scale_factor=2.0)
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        left, right = x.split([3, 5], dim=1)
        x = torch.cat([right, left], dim=1)[:, :, 1:9, ::2].flatten(2).transpose(1, 2)
        x = F.dropout(self.layer_norm(x), training=self.training)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x.add_(1.0)
        x = F.hardtanh(F.silu(F.relu_(x)), -1.0, 0.5, inplace=True)
        return x.mean((1, 2)), x[:, 0], self.embedding(tokens).to(torch.float64)


class Keywords(nn.Module):
    def forward(self, x: Tensor, mask: Tensor, *, scale: Tensor) -> dict[str, Tensor]:
        return {"masked": x * mask, "scaled": x * scale}


def saved(path: Path, module: nn.Module, *args: Tensor, eval_mode: bool = True, **options: Any) -> Path:
    save(export(module.eval() if eval_mode else module.train(), args, **options), path)
    return path


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    buffer = io.BytesIO()
    save(export(nn.Linear(4, 2).eval(), (torch.ones(3, 4),)), buffer)
    return buffer.getvalue()


def test_a_program_is_written_as_onnx_directly_and_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = {"x": torch.randn(1, 4, 8, 8), "tokens": torch.tensor([[0, 4]])}
    module = Many().eval()
    model = open_model(str(saved(tmp_path / "many.pt2", module, *inputs.values())))
    assert list(model.inputs) == ["x", "tokens"]
    session = onnxruntime.InferenceSession(_write(model.module, model.inputs), providers=["CPUExecutionProvider"])
    given = session.run(None, model.inputs)
    for mine, theirs in zip(given, module(*inputs.values()), strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), atol=1e-5)


def test_operators_of_a_program_are_those_of_the_module(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 2)
    )
    x = np.zeros((1, 3, 8, 8), np.float32)
    program = open_model(str(saved(tmp_path / "net.pt2", module, torch.from_numpy(x))))
    mine, theirs = operators(program.module, {"x": x}), operators(module.eval(), {"x": x})
    assert [(o.type.strip("_"), o.flops, o.params) for o in mine] == [(o.type, o.flops, o.params) for o in theirs]


def test_keywords_and_dictionaries_of_tensors_are_inputs_and_outputs(tmp_path: Path) -> None:
    x, mask, scale = torch.randn(2, 3), torch.ones(2, 1), torch.tensor([2.0])
    path = saved(tmp_path / "keywords.pt2", Keywords(), x, mask, kwargs={"scale": scale})
    model = open_model(str(path))
    assert list(model.inputs) == ["x", "mask", "scale"]
    masked, scaled = model.reference_outputs()
    np.testing.assert_array_equal(masked, x)
    np.testing.assert_array_equal(scaled, 2 * x)
    assert onnxruntime.InferenceSession(model.onnx).run(None, model.inputs)[1].shape == (2, 3)


def test_a_free_dimension_takes_any_batch_and_a_fixed_one_its_own(tmp_path: Path) -> None:
    free = saved(tmp_path / "free.pt2", nn.Linear(4, 2), torch.ones(3, 4), dynamic_shapes=({0: Dim("n")},))
    assert open_model(str(free), batch=5).reference_outputs()[0].shape == (5, 2)
    fixed = saved(tmp_path / "fixed.pt2", nn.Linear(4, 2), torch.ones(3, 4))
    with pytest.raises(ModelError, match=r"is 3x4, not 5x4: give that shape, or export .* free dimension"):
        open_model(str(fixed), batch=5)


def test_a_program_in_training_mode_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "train.pt2", nn.Sequential(nn.Dropout()), torch.ones(1, 2), eval_mode=False)
    with pytest.raises(ModelError, match=r"training mode \(dropout trains\): call .eval\(\)"):
        read_program(path)


def test_a_program_that_takes_other_things_than_tensors_is_refused(tmp_path: Path) -> None:
    class Times(nn.Module):
        def forward(self, x: Tensor, n: int) -> Tensor:
            return x * n

    path = tmp_path / "times.pt2"
    save(export(Times(), (torch.ones(2), 3)), path)
    with pytest.raises(ModelError, match="takes more than tensors"):
        read_program(path)


@pytest.mark.parametrize("data", [b"", b"no archive at all", b"PK\x03\x04 torn"])
def test_a_foreign_file_is_refused_without_a_word_of_torchs(
    data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"torch\.export\.save"):
        read_program(path)
    assert capfd.readouterr().err == ""


def test_a_truncated_file_is_refused(linear: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(linear[: len(linear) // 2])
    with pytest.raises(ModelError, match=r"torch\.export"):
        read_program(path)


class Bomb:
    """What a pickle may do: run a command of its author's."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def torch_saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


RECORDS = ("sample_inputs/model.pt", "weights/model.pt", "weights/weight_0", "constants/opaque_obj_0")


def armed(linear: bytes, record: str, bomb: Bomb) -> bytes:
    """Return the file with a pickle where torch.export.load unpickles."""
    data = pickle.dumps(bomb) if "opaque" in record else torch_saved(((bomb,), {}))
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(linear)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("weights_config.json") and "weight_0" in record:
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true')
            if name.endswith("constants_config.json") and "opaque" in record:
                content = json.dumps({"config": {"bomb": meta}}).encode()
            if not name.endswith(record):
                new.writestr(name, content)
        new.writestr(f"{old.namelist()[0].partition('/')[0]}/data/{record}", data)
    buffer.seek(0)
    return buffer.getvalue()


@pytest.mark.parametrize("record", RECORDS)
def test_nothing_in_a_file_runs_while_it_is_read(record: str, linear: bytes, tmp_path: Path) -> None:
    trace, path = tmp_path / "it ran", tmp_path / "net.pt2"
    path.write_bytes(armed(linear, record, Bomb(trace)))
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    with pytest.raises(ModelError):
        read_program(path)
    assert not trace.exists()
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == before


@pytest.mark.parametrize("record", RECORDS)
def test_all_of_it_would_run_if_torch_read_the_file_unwatched(record: str, linear: bytes, tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    with contextlib.suppress(Exception):
        torch.export.load(io.BytesIO(armed(linear, record, Bomb(trace))))
    assert trace.exists()


def test_a_model_wraps_the_module_in_eval_mode() -> None:
    module = nn.Dropout().train()
    model = Model.from_module(module, {"x": np.ones((1, 100), np.float32)})
    np.testing.assert_array_equal(model.reference_outputs()[0], model.inputs["x"])

"""What crashes or hangs while one model is measured costs its backend, never the others or the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar, NoReturn

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from typer.testing import CliRunner

from latbench import cli
from latbench.backend import CompileOptions
from latbench.errors import ModelError, WorkerDiedError
from latbench.measure.one_model.isolated import measure_source
from latbench.measure.one_model.record import ModelRecord, Refusal
from latbench.model import Model
from latbench.testing import NullBackend

HERE = "tests.test_measure_isolated"
NULL = "latbench.testing:NullBackend"
INPUT = ("x:1x2x8x8",)


class AbortingBackend(NullBackend):
    """Its native library aborts on every model."""

    name: ClassVar[str] = "aborting"

    def compile(self, model: Model, options: CompileOptions) -> NoReturn:
        os.abort()


class HangingBackend(NullBackend):
    """It never finishes compiling."""

    name: ClassVar[str] = "hanging"

    def compile(self, model: Model, options: CompileOptions) -> NoReturn:
        time.sleep(3600)
        raise AssertionError


def convolution() -> nn.Module:
    return nn.Conv2d(2, 2, 3)


def aborting_factory() -> nn.Module:
    os.abort()


def test_a_backend_that_aborts_is_refused_and_the_others_are_measured() -> None:
    result = measure_source(f"{HERE}:convolution", [f"{HERE}:AbortingBackend", NULL], inputs=INPUT)
    refusal, record = result.results
    assert isinstance(refusal, Refusal)
    assert isinstance(refusal.error, WorkerDiedError)
    assert "SIGABRT" in str(refusal.error)
    assert isinstance(record, ModelRecord)
    assert record.measurement.value > 0
    assert "measured alone" in result.notes[-1]


def test_a_backend_that_hangs_ends_at_the_timeout() -> None:
    (refusal,) = measure_source(f"{HERE}:convolution", [f"{HERE}:HangingBackend"], inputs=INPUT, timeout=10).results
    assert isinstance(refusal, Refusal)
    assert "--timeout" in str(refusal.error)


def test_a_model_that_aborts_while_it_is_opened_is_an_error_in_words() -> None:
    outcome = CliRunner().invoke(cli.app, ["measure", f"{HERE}:aborting_factory", "--backend", NULL])
    assert outcome.exit_code == 1
    assert "SIGABRT" in outcome.output
    assert "Traceback" not in outcome.output


def test_a_mistake_in_the_source_comes_back_as_it_was_raised() -> None:
    with pytest.raises(ModelError, match="no_such_factory"):
        measure_source(f"{HERE}:no_such_factory", [NULL], inputs=INPUT)


def test_a_file_for_onnx_runtime_needs_no_torch_in_any_process(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 8), np.float32), "w")
    shapes = {"x": [1, 4], "y": None}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch is imported')")
    command = [sys.executable, "-m", "latbench", "measure", str(tmp_path / "a.onnx"), "--operators", "--json"]
    paths = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (told,) = json.loads(done.stdout)["records"]
    assert (told["inspection"]["parameters"], told["inspection"]["macs"]) == (32, 32)

"""A file of the direct writer that is wrong: torch's exporter writes another one, and the record says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latbench.backend import CompileOptions
from latbench.measure.quantities.latency import LatencyQuantity
from latbench.measure.session import SessionResult, run_session
from latbench.measure.settings import Settings
from latbench.measure.workloads import FALLBACK, Workload
from latbench.model import Model
from latbench.onnx_export import FallbackWarning
from latbench.onnx_export.graph import WRITERS
from latbench_onnxruntime import OnnxRuntimeBackend

pytestmark = pytest.mark.filterwarnings("ignore::latbench.onnx_export.FallbackWarning")


class Logs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log1p(x.abs())


def wrong(operator: str) -> Any:
    return lambda graph, x: graph.add(operator, x)


def measured(model: Model) -> SessionResult:
    settings = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="all")
    workload = Workload("model", model.name, lambda: model)
    return run_session(OnnxRuntimeBackend(), [workload], LatencyQuantity(), CompileOptions(), settings)


@pytest.mark.parametrize("operator", ["Neg", "NoSuchOperator"])
def test_a_file_that_is_refused_or_computes_something_else_is_written_again(
    operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WRITERS, torch.log1p, wrong(operator))
    model = Model.from_module(Logs(), torch.ones(2, 3))
    result = measured(model)
    assert result.failures == ()
    assert FALLBACK in result.measurements[0].flags
    assert not model.write_again()


def test_a_file_that_nobody_else_can_write_stays_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WRITERS, torch.log1p, wrong("Neg"))
    monkeypatch.setattr(torch.onnx, "export", None)
    (failure,) = measured(Model.from_module(Logs(), torch.ones(2, 3))).failures
    assert "the backend computes something else" in failure.reason
    assert "cannot be written as ONNX" in failure.reason


def test_a_file_of_the_users_own_is_not_written_again() -> None:
    written = Model.from_module(Logs(), torch.ones(2, 3)).onnx
    assert not Model("net.onnx", {"x": torch.ones(2, 3)}, onnx=lambda: written).write_again()


def test_what_torch_has_written_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(WRITERS, torch.log1p, raising=False)
    model = Model.from_module(Logs(), torch.ones(2, 3))
    with pytest.warns(FallbackWarning):
        model.onnx  # noqa: B018
    assert not model.write_again()

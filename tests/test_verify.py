"""Outputs that are compared with the module's: what counts as the same, what cannot be compared, planted faults."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.backend import Backend, Compiled, CompileOptions
from latbench.errors import OutputMismatchError
from latbench.measure.compiling import verified
from latbench.measure.verify import verify_outputs
from latbench.measure.workloads import CompiledWorkload, Workload
from latbench.model import Model
from latbench.model.source import as_model
from latbench.onnx_export import FallbackWarning, export_onnx
from latbench_onnxruntime import OnnxRuntimeBackend
from latbench_torch.cpu import CpuBackend


class Given:
    """A compiled model that gives what it is told to."""

    clock = "null"

    def __init__(self, *outputs: Any) -> None:
        self._outputs = list(outputs)

    def run(self) -> float:
        return 1.0

    def outputs(self) -> list[Any]:
        return self._outputs

    def __enter__(self) -> Given:
        return self

    def __exit__(self, *_: object) -> None:
        """Free nothing."""


class Returns(nn.Module):
    """Returns what it is told to, whatever it gets."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make()


def returning(make: Callable[[], Any]) -> Model:
    return Model.from_module(Returns(make), torch.ones(1))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("expected", "given", "same"),
    [
        ([1.0, 2.0], [1.0, 2.001], True),
        ([1.0, 2.0], [1.0, 2.1], False),
        ([1.0, NAN, INF, -INF], [1.0, NAN, INF, -INF], True),
        ([1.0, NAN], [1.0, 0.0], False),
        ([1.0, 0.0], [1.0, NAN], False),
        ([1.0, INF], [1.0, -INF], False),
        ([1.0, INF], [1.0, 1e30], False),
        ([NAN, NAN], [NAN, NAN], True),
        ([1 + 2j, 0j], [1 + 2j, 0j], True),
        ([1 + 2j, 0j], [1 - 2j, 0j], False),
        ([1 + 2j, 0j], [[1.0, 2.0], [0.0, 0.0]], True),
        ([1 + 2j, 0j], [[1.0, 2.0], [0.0, 1.0]], False),
        ([True, False], [True, True], False),
    ],
)
def test_outputs_are_the_same_where_both_are_close_nan_or_infinite(expected: Any, given: Any, same: bool) -> None:
    model = returning(lambda: torch.tensor(expected))
    compiled = Given(np.array(given))
    if same:
        verify_outputs(compiled, model, "fp32")
    else:
        with pytest.raises(OutputMismatchError, match="the backend computes something else"):
            verify_outputs(compiled, model, "fp32")


def test_what_is_not_finite_is_told() -> None:
    (note,) = verify_outputs(Given(np.array([1.0, NAN])), returning(lambda: torch.tensor([1.0, NAN])), "fp32")
    assert "1 of 2 values of output 0 of Returns are NaN or infinite" in note


def test_of_several_precisions_the_least_accurate_counts() -> None:
    model = returning(lambda: torch.ones(1))
    verify_outputs(Given(np.array([1.05])), model, "bf16+fp32")
    with pytest.raises(OutputMismatchError):
        verify_outputs(Given(np.array([1.05])), model, "fp32")


def test_a_model_that_a_runtime_casts_up_may_be_as_inaccurate_as_its_module() -> None:
    half = Model.from_module(Returns(lambda: torch.ones(1)).half(), torch.ones(1).half())
    verify_outputs(Given(np.array([1.01])), half, "fp32")


def test_random_outputs_are_told_and_the_others_compared() -> None:
    model = returning(lambda: (torch.rand(4), torch.ones(2)))
    (note,) = verify_outputs(Given(np.zeros(4), np.ones(2)), model, "fp32")
    assert note.startswith("output 0 of Returns differs from one call to the next (random numbers, or a state")
    with pytest.raises(OutputMismatchError, match="output 1 of Returns differs"):
        verify_outputs(Given(np.zeros(4), np.zeros(2)), model, "fp32")
    with pytest.raises(OutputMismatchError, match="output 0 of Returns has shape"):
        verify_outputs(Given(np.zeros((2, 4)), np.ones(2)), model, "fp32")


@pytest.mark.parametrize(
    "result",
    [
        nn.Parameter(torch.ones(2)),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2).to_sparse(),
        {"a": None, "b": torch.ones(2), "n": 3, "text": "a"},
        [torch.ones(2).conj()],
    ],
)
def test_whatever_tensors_a_module_returns_are_compared(result: Any) -> None:
    verify_outputs(Given(np.ones(2)), returning(lambda: result), "fp32")
    with pytest.raises(OutputMismatchError):
        verify_outputs(Given(np.zeros(2)), returning(lambda: result), "fp32")


# Planted faults: files that a tracer would write for modules that keep what they get


class Kept(nn.Module):
    """Writes its input into a buffer, as a padded canvas, a ring buffer or a static cache do."""

    canvas: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("canvas", torch.zeros(1, 8))
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.canvas[:, :6] = x
        y: Tensor = self.layer(self.canvas)
        return y


def frozen(model: Model, canvas: Tensor) -> Given:
    """Return what a file computes into which the buffer was written as it is."""
    module: Any = model.module
    with torch.inference_mode():
        return Given(module.layer(canvas).numpy())


def test_a_file_into_which_a_buffer_was_frozen_is_refused_whatever_ran_before() -> None:
    torch.manual_seed(0)
    model = as_model(Kept(), torch.randn(1, 6))
    module: Any = model.module
    for _ in range(2):
        # The first file is written after the trial, the second after outputs have been compared.
        model.show_other_numbers()
        with pytest.raises(OutputMismatchError):
            verify_outputs(frozen(model, module.canvas.clone()), model, "fp32")
    with CpuBackend().compile(model, CompileOptions()) as compiled:
        assert verify_outputs(compiled, model, "fp32") == ()


def measured_outputs(module: nn.Module, backend: Backend, x: Tensor) -> CompiledWorkload:
    """Return a workload as a session has compiled it."""
    model = as_model(module, x)
    workload = Workload("model", model.name, lambda: model)
    return CompiledWorkload(0, workload, model, backend.compile(model, CompileOptions()), 0.0)


@pytest.mark.parametrize(("scale", "told"), [(0.0, True), (1e-6, True), (1.0, False)])
def test_that_a_comparison_shows_nothing_is_told(scale: float, told: bool) -> None:
    layer, backend = nn.Linear(6, 6), CpuBackend()
    layer.weight.data.mul_(scale)
    each = measured_outputs(layer, backend, torch.randn(1, 6))
    notes = verified(each, lambda model: backend.compile(model, CompileOptions()), "fp32")
    assert [("returns the same for other inputs, so comparing" in note) for note in notes] == [True] * told


class Branches(nn.Module):
    """A branch that does nothing at first: the norm at its end starts at weight 0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.LayerNorm(6)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.norm(self.body(x))


def test_a_file_that_forgets_a_branch_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    backend, x = OnnxRuntimeBackend(), torch.randn(2, 6)

    def compile_(model: Model) -> Compiled:
        return backend.compile(model, CompileOptions())

    each = measured_outputs(Branches(), backend, x)
    assert verified(each, compile_, "fp32") == ()
    assert each.flags == ()

    def forgetful(module: Any, inputs: Any, *, direct: bool = True) -> bytes:
        if not direct:
            warnings.warn("by torch", FallbackWarning, stacklevel=1)
        return export_onnx(nn.Sequential(module.stem, nn.Identity()) if direct else module, inputs)

    monkeypatch.setattr("latbench.onnx_export.export_onnx", forgetful)
    each = measured_outputs(Branches(), backend, x)
    assert verify_outputs(each.compiled, each.model, "fp32") == ()
    with pytest.warns(FallbackWarning, match="by torch"):
        assert verified(each, compile_, "fp32") == ()
    assert each.flags == ("fallback",)


def sequence() -> Sequence[Any]:
    return [np.ones(2), np.zeros(3)]


def test_sequences_of_outputs_are_compared_one_by_one() -> None:
    model = returning(lambda: (torch.ones(2), torch.zeros(3)))
    assert verify_outputs(Given(sequence()), model, "fp32") == ()


def test_the_tracer_sees_other_numbers_than_the_backend_runs() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    model = as_model(nn.Identity(), x)
    assert not torch.equal(model.other_tensors()[0], x)
    with OnnxRuntimeBackend().compile(model, CompileOptions()) as compiled:
        np.testing.assert_array_equal(compiled.outputs()[0], x)

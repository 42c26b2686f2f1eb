"""What the cuda backend does beyond the contract, on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.backend import CompileOptions, HasCache, HasFlags, HasState
from latbench.errors import OutOfMemoryError
from latbench.measure.verify import verify_outputs
from latbench.model import Model
from latbench_torch import CudaBackend

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def convolutions() -> Model:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3))
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32), dtype=np.float32)
    return Model.from_module(network, {"x": x})


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize(
    "options", [{}, {"memory_format": "channels_last"}, {"graph": "yes"}, {"autocast": "yes", "graph": "yes"}]
)
def test_every_variant_computes_what_the_module_computes(precision: str, options: dict[str, str]) -> None:
    if "autocast" in options and precision in ("fp32", "tf32"):
        options = {name: value for name, value in options.items() if name != "autocast"}
    model = convolutions()
    with CudaBackend().compile(model, CompileOptions(precision, options=options)) as compiled:
        assert compiled.run() > 0
        verify_outputs(compiled, model, precision)


@pytest.mark.filterwarnings("default")  # the compiler imports deprecated parts of its own and of triton
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_variants_compute_what_the_module_computes(mode: str) -> None:
    model = convolutions()
    with CudaBackend().compile(model, CompileOptions(options={"compile": mode})) as compiled:
        compiled.run()
        verify_outputs(compiled, model, "fp32")


def test_fp32_is_more_exact_than_tf32() -> None:
    model = Model.from_module(nn.Linear(2048, 64), {"x": np.random.default_rng(0).random((64, 2048), np.float32)})
    error = {}
    for precision in ("fp32", "tf32"):
        with CudaBackend().compile(model, CompileOptions(precision)) as compiled:
            error[precision] = float(np.abs(compiled.outputs()[0] - model.reference_outputs()[0]).max())
    assert error["fp32"] < 1e-4 < error["tf32"]


def test_a_model_larger_than_the_gpu_leaves_it_usable() -> None:
    class Huge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_zeros(2**42) + x

    model = Model.from_module(Huge(), {"x": np.zeros(1, np.float32)})
    with (
        CudaBackend().compile(model, CompileOptions()) as compiled,
        pytest.raises(OutOfMemoryError, match="memory does not hold Huge"),
    ):
        compiled.run()
    small = convolutions()
    with CudaBackend().compile(small, CompileOptions()) as compiled:
        verify_outputs(compiled, small, "fp32")


def test_a_flushed_cache_and_flags_and_state_are_there() -> None:
    backend = CudaBackend()
    assert isinstance(backend, HasState)
    with backend.compile(convolutions(), CompileOptions()) as compiled:
        assert isinstance(compiled, HasCache)
        assert isinstance(compiled, HasFlags)
        compiled.flush_cache()
        compiled.run()
        assert set(compiled.flags()) <= {"launch-bound", "shared-gpu"}
    assert all(isinstance(value, str | int | float) for value in backend.state().values())

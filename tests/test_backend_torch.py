"""What PyTorch's backends do beyond the contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.backend import CompileOptions
from latbench.errors import PluginError, UsageError
from latbench.measure.verify import verify_outputs
from latbench.model import Model
from latbench_torch import CpuBackend, CudaBackend


def model() -> Model:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(512, 4)
    )
    return Model.from_module(network, {"x": np.random.default_rng(0).standard_normal((2, 3, 18, 18), dtype=np.float32)})


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_computes_the_same_and_leaves_the_module_as_it_was(precision: str) -> None:
    wrapped = model()
    with CpuBackend().compile(wrapped, CompileOptions(precision=precision)) as compiled:
        assert compiled.run() > 0
        verify_outputs(compiled, wrapped, precision)
    assert {p.dtype for p in wrapped.module.parameters()} == {torch.float32}


def test_another_precision_than_the_modules_is_really_computed() -> None:
    wrapped = model()
    with CpuBackend().compile(wrapped, CompileOptions(precision="bf16")) as compiled:
        assert not np.array_equal(compiled.outputs()[0], wrapped.reference_outputs()[0])


def test_an_unknown_precision_is_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match="runs fp32, fp16, bf16, not int8"):
        CpuBackend().compile(model(), CompileOptions(precision="int8"))


@pytest.mark.parametrize(("threads", "clock"), [(1, "thread_cpu"), (2, "wall")])
def test_threads_choose_the_clock_and_torchs_pool_until_the_model_is_left(threads: int, clock: str) -> None:
    before = torch.get_num_threads()
    with CpuBackend().compile(model(), CompileOptions(threads=threads)) as compiled:
        compiled.run()
        assert torch.get_num_threads() == threads
        assert compiled.clock == clock
    assert torch.get_num_threads() == before


def test_a_run_records_no_gradients() -> None:
    class Records(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            assert torch.is_inference_mode_enabled()
            return x * self.weight

    with CpuBackend().compile(Model.from_module(Records(), {"x": np.ones((1, 2), np.float32)}), CompileOptions()) as c:
        c.run()
        np.testing.assert_array_equal(c.outputs()[0], [[1, 1]])


def test_integer_inputs_keep_their_type() -> None:
    tokens = Model.from_module(nn.Embedding(5, 2), {"tokens": np.array([[0, 4]])})
    with CpuBackend().compile(tokens, CompileOptions(precision="bf16")) as compiled:
        verify_outputs(compiled, tokens, "bf16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_the_message_says_what_to_do() -> None:
    with pytest.raises(PluginError, match=r"needs a CUDA device: .*torch .* install one for your driver"):
        CudaBackend()

"""What PyTorch on the CPU does beyond the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.backend import CompileOptions
from latbench.errors import CompileError, UsageError
from latbench.measure.verify import verify_outputs
from latbench.model import Model
from latbench_torch import CpuBackend


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
    with pytest.raises(UsageError, match="not tf32"):
        CpuBackend().compile(model(), CompileOptions(precision="tf32"))


class Looks(nn.Module):
    """Notes what its convolution is given."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.seen: list[tuple[torch.dtype, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolution(x)
        self.seen.append((y.dtype, x.is_contiguous(memory_format=torch.channels_last)))
        return y


def looked_at(precision: str = "fp32", **options: str) -> tuple[torch.dtype, torch.dtype, bool]:
    """Return the type of the weights and of a convolution's output, and whether its input is channels-last."""
    wrapped = Model.from_module(Looks(), {"x": np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)})
    before = wrapped.module.convolution.weight
    with CpuBackend().compile(wrapped, CompileOptions(precision, options=options)) as compiled:
        compiled.run()
        verify_outputs(compiled, wrapped, precision)
        module = compiled._module
        assert wrapped.module.convolution.weight is before
        assert before.is_contiguous()
        return module.convolution.weight.dtype, *module.seen[0]


def test_channels_last_changes_the_layout_alone() -> None:
    assert looked_at() == (torch.float32, torch.float32, False)
    assert looked_at(memory_format="channels_last") == (torch.float32, torch.float32, True)


def test_autocast_keeps_the_weights_and_casts_in_the_run() -> None:
    assert looked_at("bf16") == (torch.bfloat16, torch.bfloat16, False)
    assert looked_at("bf16", autocast="yes", memory_format="channels_last") == (torch.float32, torch.bfloat16, True)


def test_autocast_to_what_casts_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="autocast=yes with fp32 casts nothing: give --precision fp16 or bf16"):
        CpuBackend().compile(model(), CompileOptions(options={"autocast": "yes"}))


@pytest.mark.parametrize(
    ("option", "message"),
    [({"compile": "reduce-overhead"}, "choose one of no, default"), ({"memory": "x"}, "did you mean 'memory_format'")],
)
def test_options_of_the_cpu_are_checked(option: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CpuBackend().compile(model(), CompileOptions(options=option))


@pytest.fixture
def dynamo_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Have torch.compile trace for real and generate no code, which takes 20 s the first time; list what it traces."""
    traced: list[str] = []
    compile_ = torch.compile

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        traced.append(str(inputs[0].dtype))
        return graph.forward

    monkeypatch.setattr(
        torch, "compile", lambda f, *, mode, dynamic: compile_(f, backend=backend, dynamic=dynamic, fullgraph=True)
    )
    yield traced
    torch._dynamo.reset()


def test_all_models_of_a_session_are_compiled_and_before_they_are_timed(dynamo_alone: list[str]) -> None:
    class Chain(nn.Module):
        def __init__(self, length: int) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(length))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x * len(self.layers)

    limit = torch._dynamo.config.recompile_limit
    with ExitStack() as stack:
        for length in range(1, limit + 3):
            wrapped = Model.from_module(Chain(length), {"x": np.ones((1, 4), np.float32)})
            compiled = stack.enter_context(
                CpuBackend().compile(wrapped, CompileOptions("bf16", options={"compile": "default", "autocast": "yes"}))
            )
            assert len(dynamo_alone) == length
            verify_outputs(compiled, wrapped, "bf16")
            compiled.run()
            assert compiled.operator_times() == []
        assert len(dynamo_alone) == limit + 2


def test_what_torch_compile_says_is_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> Callable[..., object]:
        def infer(*inputs: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler\nand pages of more")

        return infer

    monkeypatch.setattr(torch, "compile", fails)
    before = torch.get_num_threads()
    with pytest.raises(CompileError, match=r"torch.compile fails on Sequential: RuntimeError: no C\+\+ compiler$"):
        CpuBackend().compile(model(), CompileOptions(threads=2, options={"compile": "default"}))
    assert torch.get_num_threads() == before


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

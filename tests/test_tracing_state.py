"""What tracing does to the user's module: nothing, also where that keeps what it computes or writes what it has."""

from __future__ import annotations

import copy
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.errors import ModelError
from latbench.onnx_export import FallbackWarning, export_onnx
from latbench.tracing import TraceError, trace
from tests.test_onnx_export import run

X = {"x": np.random.default_rng(0).standard_normal((2, 4), dtype=np.float32)}


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("canvas", torch.zeros(2, 6))
        self.register_buffer("calls", torch.zeros(()))
        self.plain = torch.zeros(2, 4)
        self.last: Any = None
        self.seen: list[Tensor] = []
        self.recent: deque[Tensor] = deque(maxlen=2)
        self.by_name: dict[str, Any] = {"count": 0, "inner": {}}
        self.holder = Holder()
        self.count = 0


class Holder:
    def __init__(self) -> None:
        self.value: Any = None
        self.items = [1, 2]


def snapshot(module: nn.Module) -> tuple[dict[str, Any], list[Any]]:
    kept = [(dict(vars(m)), {k: dict(v) for k, v in vars(m).items() if isinstance(v, dict)}) for m in module.modules()]
    values = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    values["plain"] = module.plain.clone()  # type: ignore[operator, union-attr]
    return values, kept


def assert_untouched(module: Any, before: tuple[dict[str, Any], list[Any]]) -> None:
    values, kept = snapshot(module)
    assert all(torch.equal(value, before[0][name]) for name, value in values.items())
    for (now, dicts), (then, then_dicts) in zip(kept, before[1], strict=True):
        assert now.keys() == then.keys()
        assert all(now[name] is then[name] for name in now)
        assert dicts == then_dicts
    assert (module.seen, list(module.recent), vars(module.holder)) == ([], [], {"value": None, "items": [1, 2]})
    assert module.by_name == {"count": 0, "inner": {}}


class Keeps(Layer):
    """Keeps activations in every place there is, and reads none of them."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        self.last = y
        self.new = y
        self.layer.activation = y
        self.seen.append(y)
        self.recent.append(y)
        self.by_name["count"] += 1
        self.by_name["inner"]["y"] = (y, y)
        self.holder.value = y
        self.holder.items.pop()
        self.count += 1
        return self.last.relu()


def test_what_a_module_keeps_of_a_trace_is_taken_from_it_again() -> None:
    module = Keeps().eval()
    before = snapshot(module)
    expected = copy.deepcopy(module)(torch.from_numpy(X["x"])).detach().numpy()
    np.testing.assert_allclose(run(export_onnx(module, X), X)[0], expected, rtol=1e-5, atol=1e-6)
    assert_untouched(module, before)


def test_a_module_that_fails_while_it_is_traced_is_left_as_it_was() -> None:
    class Fails(Keeps):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise RuntimeError("as it may")

    module = Fails().eval()
    before = snapshot(module)
    with pytest.raises(RuntimeError, match="as it may"):
        trace(module, X)
    assert_untouched(module, before)


class Slices(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.canvas[:, 1:5] = self.layer(x)
        return self.canvas * 2


class Copies(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.canvas[:, :4].copy_(self.layer(x))
        return self.canvas * 2


class Adds(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.plain += self.layer(x)
        return self.plain * 2


class Outputs(Layer):
    def forward(self, x: Tensor) -> Tensor:
        torch.mul(self.layer(x), 2, out=self.plain)
        return self.plain


class Data(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.canvas.data[:, :4] = self.layer(x)
        return self.canvas * 2


class Indexes(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.canvas.index_copy_(1, torch.arange(4), self.layer(x))
        return self.canvas * 2


class Counts(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) + self.calls


class Exchanges(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.layer.weight.data = self.layer.weight.data * 2
        return self.layer(x)


@pytest.mark.parametrize("kind", [Slices, Copies, Adds, Outputs, Data, Indexes, Counts, Exchanges])
def test_a_tensor_that_a_module_keeps_is_never_written(kind: type[Layer]) -> None:
    module = kind().eval()
    before = snapshot(module)
    with pytest.raises(TraceError, match=r"tensor that it keeps|memory of a tensor"):
        trace(module, X)
    assert_untouched(module, before)


class Rolls(Layer):
    """Streaming: the newest columns enter a buffer, the oldest leave it."""

    def forward(self, x: Tensor) -> Tensor:
        self.canvas = torch.cat([self.canvas[:, 4:], self.layer(x)], 1)
        return self.canvas * 2


class Averages(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.plain = 0.5 * self.plain + self.layer(x)
        return self.plain


class Remembers(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.by_name["inner"] = {}
        self.memory = {"state": torch.ones(2, 4)}

    def forward(self, x: Tensor) -> Tensor:
        self.memory["state"] = torch.tanh(self.layer(x) + self.memory["state"])
        return self.memory["state"]


@pytest.mark.parametrize("kind", [Rolls, Averages, Remembers])
def test_a_module_that_computes_with_what_its_last_call_left_is_refused(kind: type[Layer]) -> None:
    module = kind().eval()
    before = snapshot(module)
    with pytest.raises(TraceError, match="keeps from call to call"):
        trace(module, X)
    assert_untouched(module, before)


def test_a_mask_that_is_kept_for_the_next_call_of_its_shape_is_no_state() -> None:
    class Masks(Layer):
        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            if self.last is None or self.last.shape != y.shape:
                self.last = torch.ones_like(y)
            return y * self.last

    module = Masks().eval()
    assert len(trace(module, X).nodes) == 2
    module(torch.from_numpy(X["x"]))
    assert len(trace(module, X).nodes) == 2


def test_outputs_that_do_not_depend_on_the_inputs_are_refused() -> None:
    class Constant(Layer):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.zeros_like(x)) + x.shape[0]

    with pytest.raises(TraceError, match="do not depend on its inputs"):
        trace(Constant().eval(), X)


@pytest.mark.parametrize("kind", [Slices, Rolls])
def test_a_module_with_a_state_is_written_by_torch_and_left_as_it_was(kind: type[Layer]) -> None:
    module = kind().eval()
    before = snapshot(module)
    expected = copy.deepcopy(module)(torch.from_numpy(X["x"])).detach().numpy()
    with pytest.warns(FallbackWarning, match="keeps"):
        data = export_onnx(module, X)
    np.testing.assert_allclose(run(data, X)[0], expected, rtol=1e-5, atol=1e-6)
    assert_untouched(module, before)


def test_a_state_that_nobody_can_write_is_an_error_in_words() -> None:
    module = Adds().eval()
    before = snapshot(module)
    with pytest.warns(FallbackWarning), pytest.raises(ModelError, match="tensor that it keeps") as caught:
        export_onnx(module, X)
    assert "\x1b" not in str(caught.value)
    assert_untouched(module, before)


def test_random_numbers_go_on_as_if_there_had_been_no_trace() -> None:
    class Noise(Layer):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + torch.bernoulli(torch.full((4,), 0.5)) + torch.randn_like(x)

    module = Noise().eval()
    state = torch.get_rng_state()
    trace(module, X)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [nn.Linear(4, 4), nn.ReLU(), nn.Softmax(1)], ids=["linear", "relu", "softmax"])
def test_compiled_code_is_refused(kind: nn.Module) -> None:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=DeprecationWarning)
                self.inner = torch.jit.script(kind)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    with pytest.raises((TraceError, RuntimeError), match="where no one sees it"):
        trace(Scripted().eval(), X)


def test_what_a_thread_computes_is_refused() -> None:
    class Threads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as pool:
                return x + pool.submit(torch.neg, x).result()

    with pytest.raises(TraceError, match="where no one sees it"):
        trace(Threads().eval(), X)

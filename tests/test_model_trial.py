"""What a module keeps from one call to the next shows before it is measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.backend import CompileOptions
from latbench.errors import ModelError
from latbench.model import Model
from latbench.model.source import as_model
from latbench_torch import CpuBackend

X = torch.randn(1, 6)
KEYS: dict[str, Callable[[Tensor], Any]] = {
    "nothing": lambda x: None,
    "shape": lambda x: x.shape,
    "address": lambda x: x.data_ptr(),
}
ELSEWHERE: dict[Any, Tensor] = {}


class Remembering(nn.Module):
    """Computes once for each key of its inputs."""

    def __init__(self, key: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.key, self.known = nn.Linear(6, 6), key, {}
        self.computed = 0

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(x)
        if key not in self.known:
            self.computed += 1
            self.known[key] = self.layer(x).relu()
        return self.known[key]


class Elsewhere(nn.Module):
    """Keeps its answers in a variable of its file."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return ELSEWHERE.setdefault(x.shape, self.layer(x).relu() if x.shape not in ELSEWHERE else None)


class Growing(nn.Module):
    """Attends to all that it has ever seen."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.layer, self.seen, self.most = nn.Linear(6, 6), [], most

    def forward(self, x: Tensor) -> Tensor:
        self.seen = [*self.seen, self.layer(x)][-self.most :]
        return torch.cat(self.seen).mean(0)


class Lazy(nn.Module):
    """Makes a table in its first call, and has a last layer of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.table = nn.Linear(6, 6), None
        nn.init.zeros_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.arange(6).float().cos().exp().add(1).mul(2).sqrt().tanh()
        return self.layer((x + self.table).relu().tanh().exp())


@pytest.mark.parametrize("module", [*map(Remembering, KEYS.values()), Elsewhere()], ids=[*KEYS, "elsewhere"])
def test_a_module_that_answers_from_what_it_keeps_is_refused(module: nn.Module) -> None:
    ELSEWHERE.clear()
    with pytest.raises(ModelError, match="returns what it computed for other inputs: it calls 0 operators, where its"):
        as_model(module, X)


def test_a_module_that_computes_more_in_each_call_is_refused() -> None:
    with pytest.raises(ModelError, match=r"computes more in each call .*, so it has no latency: it keeps what it has"):
        as_model(Growing(), X)
    with pytest.raises(ModelError, match="computes more in each call"):
        as_model(Growing(), torch.arange(6.0).reshape(1, 6).zero_())  # nothing else would be run on other numbers
    for most in (1, 2, 6):
        as_model(Growing(most), X)


def test_a_forward_that_ends_the_program_is_refused() -> None:
    class Ending(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise SystemExit(3)

    with pytest.raises(ModelError, match=r"Ending does not run on x:1x6:float32 .SystemExit"):
        as_model(Ending(), X)


def test_what_a_first_call_makes_and_last_weights_of_zeros_are_no_reason() -> None:
    as_model(Lazy(), X)
    cached = Remembering(lambda x: None)
    cached.forward = lru_cache(cached.layer.forward)  # type: ignore[method-assign]  # whose keys are objects, kept alive
    as_model(cached, X)


@pytest.mark.parametrize(
    "key",
    [id, lambda x: float(x[0, :2].double().sum()), lambda x: float(x[0, 1]), lambda x: x.numpy().tobytes()],
    ids=["identity", "sum", "one number", "bytes"],
)
def test_every_run_has_an_object_and_values_of_its_own(key: Callable[[Tensor], Any]) -> None:
    module = Remembering(key)
    model = Model.from_module(module, torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0, 33.5]]))
    measured: Any = model.module
    with CpuBackend().compile(model, CompileOptions()) as compiled:
        before = measured.computed
        for _ in range(300):
            compiled.run()
        assert measured.computed - before > 290  # an early object may have the identity of one that is gone
        np.testing.assert_array_equal(compiled.outputs()[0], model.reference_outputs()[0])

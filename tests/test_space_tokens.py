"""A space of two inputs, tokens among them, with parts, operations that two columns run together, and a supernet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from latbench.backend import CompileOptions
from latbench.errors import ParseError, ShapeError
from latbench.measure.settings import Settings
from latbench.measure.workers import Workers
from latbench.measure.workers.request import SessionRequest
from latbench.model import Model
from latbench.profiling.plan import plan
from latbench.records.subjects import Subject
from latbench.space import SpaceSpec, Term
from latbench.spaces.choices import Choice, Choices, ChoiceSpace

WIDTHS = (8, 16)


@dataclass(frozen=True)
class Tokens(ChoiceSpace):
    """Two layers on embedded tokens, whose sum with a vector is classified; an early exit after the first layer."""

    length: int = 6
    name: ClassVar[str] = "tokens"
    decisions = (Choice("first", WIDTHS), Choice("second", WIDTHS))

    def inputs(self, architecture: Choices, *, batch: int) -> dict[str, Any]:
        tokens = np.arange(batch * self.length).reshape(batch, self.length) % 11
        return {"tokens": tokens, "context": np.ones((batch, 4), np.float32)}

    def build(self, architecture: Choices) -> nn.Module:
        return Classifier(architecture["first"], architecture["second"])

    def parts(self, architecture: Choices) -> dict[str, nn.Module]:
        return {"exit1": Classifier(architecture["first"], None)}

    def terms(self) -> list[Term]:
        return [Term((f"first/{a}", f"second/{b}"), {f"linear {a}->{b}": 1}) for a in WIDTHS for b in WIDTHS]

    def operation(self, key: str, *, batch: int) -> Model:
        known = {name for term in self.terms() for name in term.operations}
        if key not in known:
            raise ParseError(f"no operation {key!r}: choose one of {', '.join(sorted(known))}")
        width, _, out = key.removeprefix("linear ").partition("->")
        inputs = {"x": np.ones((batch, self.length, int(width)), np.float32)}
        return Model(key, inputs, module=nn.Linear(int(width), int(out)).eval)

    def supernet(self) -> Paths:
        return Paths()


class Classifier(nn.Module):
    def __init__(self, first: int, second: int | None) -> None:
        super().__init__()
        self.embed, self.context = nn.Embedding(11, first), nn.Linear(4, second or first)
        self.hidden = nn.Linear(first, second) if second else nn.Identity()
        self.head = nn.Linear(second or first, 3)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        return self.head(self.hidden(self.embed(tokens)).mean(1) + self.context(context))


class Paths(nn.Module):
    """Every path as a network of its own, weighted by both of its decisions."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList(Classifier(a, b) for a in WIDTHS for b in WIDTHS)
        self.first, self.second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def alphas(self) -> list[nn.Parameter]:
        return [self.first, self.second]

    def weights(self) -> list[nn.Parameter]:
        return list(self.paths.parameters())

    def forward(self, tokens: Tensor, context: Tensor, *, encoding: Tensor | None = None) -> Tensor:
        if encoding is None:
            encoding = torch.cat([self.first.softmax(-1), self.second.softmax(-1)])
        if encoding.shape != (4,):
            raise ShapeError(f"an encoding has the shape (4,), not {tuple(encoding.shape)}: give one row")
        weights = torch.outer(encoding[:2], encoding[2:]).flatten()
        running = [(w, path) for w, path, run in zip(weights, self.paths, weights.tolist(), strict=True) if run]
        nothing = tokens.new_zeros((len(tokens), 3), dtype=torch.float32)
        return sum((weight * path(tokens, context) for weight, path in running), start=nothing)


def test_a_plan_may_hold_parts() -> None:
    (stretch,) = plan(Tokens(), 3, 0, with_parts=True)
    texts = [subject.text for subject in stretch.first if subject.kind == "architecture"]
    assert [subject.text for subject in stretch.first if subject.kind == "part"] == [f"{text}#exit1" for text in texts]
    assert all(subject.kind != "part" for subject in plan(Tokens(), 3, 0)[0].first)


def test_parts_and_operations_are_measured_by_workers() -> None:
    subjects = (
        Subject("architecture", "first=8,second=16"),
        Subject("part", "first=8,second=16#exit1"),
        Subject("operation", "linear 8->16"),
    )
    settings = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")
    spec = SpaceSpec.of(Tokens())
    backend = "latbench.testing:NullBackend"
    with Workers() as workers:
        result = workers.run(SessionRequest("s", backend, CompileOptions(), settings, spec, 2, 0, subjects))
    values = {m.kind: m.value for m in result.measurements}
    assert values["architecture"] > values["part"] > values["operation"]

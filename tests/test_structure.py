"""A store remembers what its space's references are made of: an edited space does not continue it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.errors import StoreError
from latbench.measure.workers.structure import StructureRequest, _structure
from latbench.model import Model
from latbench.model.inputs import sample_input
from latbench.profiling import profile_space
from latbench.records.structure import NetworkStructure, Structure
from latbench.space import SpaceSpec, Term
from latbench.spaces.choices import Choice, Choices, ChoiceSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store
from tests.test_profiling import FAST, NULL

WIDTH = "LATBENCH_TEST_WIDTH"
"""Names the channels of the networks that `EditedSpace` builds, whatever its configuration says."""


@dataclass(frozen=True)
class EditedSpace(NasBench201Space):
    def build(self, architecture: object) -> nn.Module:
        fields = {"cells": self.cells, "image": self.image, "channels": int(os.environ[WIDTH])}
        return NasBench201Space(**fields).build(architecture)


SPACE = EditedSpace(cells=1, channels=4, image=8)


def test_an_edited_space_does_not_continue_an_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "a.db"
    monkeypatch.setenv(WIDTH, "4")
    profile_space(SPACE, NULL, store, samples=3, settings=FAST)
    held = rows(store)
    monkeypatch.setenv(WIDTH, "8")
    with pytest.raises(StoreError, match=r"reference 1 has .* parameters, .* when this store .*another --store"):
        profile_space(SPACE, NULL, store, samples=6, settings=FAST)
    assert rows(store) == held
    forget(store)  # as an older store
    profile_space(SPACE, NULL, store, samples=3, settings=FAST)
    monkeypatch.setenv(WIDTH, "4")
    with pytest.raises(StoreError, match="another version of"):
        profile_space(SPACE, NULL, store, samples=3, settings=FAST)


def rows(store: Path) -> int:
    with Store(store) as opened:
        return len(opened.measurements())


def forget(store: Path) -> None:
    with sqlite3.connect(store) as db:
        db.execute("DELETE FROM facts WHERE name = 'structure'")
    db.close()


def test_a_structure_survives_json_and_names_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WIDTH, "4")
    request = StructureRequest(SpaceSpec.of(SPACE), batch=2)
    before = request.read_result(request.run(lambda phase, index: None).to_json())
    assert before is not None
    assert StructureRequest.from_json(request.to_json()) == request
    assert before.references[0].inputs == {"x": "2x3x8x8:float32"}
    assert any(operator.startswith("conv2d 2x3x8x8->2x4x8x8") for operator in before.references[0].operators)
    assert before.difference(before) == ""
    assert "column 3 is other" in before.difference(
        replace(before, columns=(*before.columns[:2], "other", *before.columns[3:]))
    )
    first = before.references[0]
    later = replace(first, operators={**first.operators, "relu 1x2->1x2": 1})
    told = before.difference(replace(before, references=(later, *before.references[1:])))
    assert told == "reference 1 runs relu 1x2->1x2 once, not at all when this store was made"
    assert Structure.from_json({**before.to_json(), "format": 0}) is None


class Untraceable(nn.Module):
    """Runs on where its input is positive; its layer has any name."""

    def __init__(self, width: int, name: str = "layer", act: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.name, self.act = name, act
        self.add_module(name, nn.Linear(3, width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(self.name)(x) if x.sum().item() > 0 else x
        return y if self.act is None else self.act(y)


def structure(module: nn.Module, shape: tuple[int, ...] = (1, 3)) -> NetworkStructure:
    return _structure(Model.from_module(module, {"x": np.ones(shape, np.float32)}, name="net"))


def test_what_cannot_be_traced_is_told_by_what_it_calls() -> None:
    before = structure(Untraceable(5))
    assert before.operators["addmm 5,1x3,3x5->1x5 float32"] == 1
    assert structure(Untraceable(5, "renamed")) == before
    assert next(before.differences(structure(Untraceable(7)))) == "has 28 parameters, 20 when this store was made"
    (told,) = before.differences(structure(Untraceable(5, act=functional.relu)))
    assert told == "runs relu 1x5->1x5 float32 once, not at all when this store was made"


class Branches(nn.Module):
    """Two layers, beside each other or one after the other, under some names."""

    def __init__(self, *, beside: bool, first: str = "a", swapped: bool = False) -> None:
        super().__init__()
        self.beside, self.first, self.swapped = beside, first, swapped
        self.add_module(first, nn.Conv2d(4, 4, 1))
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.get_submodule(self.first)
        if self.swapped:
            other: Tensor = self.other(x)
            return first(x) + other
        y: Tensor = first(x)
        return self.other(x) + y if self.beside else self.other(y) + x


class Scaled(nn.Module):
    """Weights of some type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(9, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def act(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 3), *layers)


def conv(**options: object) -> nn.Module:
    return nn.Conv2d(4, 4, **{"kernel_size": 3, **options})


IMAGE = (1, 4, 9, 9)
SAME = "connects the same operators otherwise"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (act(nn.BatchNorm2d(4), nn.ReLU()), act(nn.ReLU(), nn.BatchNorm2d(4)), SAME),
        (Branches(beside=True), Branches(beside=False), SAME),
        (Scaled(torch.float32), Scaled(torch.float16), "in other types"),
        (conv(dilation=2, padding=2), conv(dilation=1, padding=1), "runs conv2d"),
        (conv(), conv(bias=False), "parameters"),
        (act(), act(nn.ReLU()), "runs relu"),
        (act(nn.ReLU()), act(nn.ReLU6()), "runs "),
        (conv(groups=2), conv(groups=4), "parameters"),
    ],
)
def test_an_edit_of_a_network_is_told(before: nn.Module, after: nn.Module, told: str) -> None:
    assert re.search(told, "; ".join(structure(before, IMAGE).differences(structure(after, IMAGE))))


def test_an_edit_that_changes_nothing_is_none() -> None:
    before = structure(Branches(beside=True), IMAGE)
    assert structure(Branches(beside=True, first="renamed", swapped=True), IMAGE) == before


@dataclass(frozen=True)
class RareSpace(ChoiceSpace):
    """One of many kernels, of which the references show three; one of them, and an operation, is edited."""

    image: int = 32
    kernels = tuple(range(1, 32, 2))
    decisions = (Choice("kernel", kernels),)
    name: ClassVar[str] = "rare"

    def build(self, architecture: Choices) -> nn.Module:
        edited = int(os.environ[WIDTH]) if architecture["kernel"] == EDITED else 1
        return nn.Conv2d(3, edited, architecture["kernel"])

    def terms(self) -> list[Term]:
        return [Term(("kernel/1",), {"conv": 1})]

    def operation(self, key: str, *, batch: int) -> Model:
        x = sample_input((batch, 3, 8, 8))
        return Model(key, {"x": x}, module=lambda: nn.Conv2d(3, int(os.environ[WIDTH]), 1).eval())


RARE = RareSpace()
DRAWN = dict.fromkeys(choices["kernel"] for choices in RARE.sample(12, seed=20200))
EDITED = list(DRAWN)[-1]


def test_an_option_that_no_reference_has_and_an_operation_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(width: str, *, operations: bool) -> Structure:
        monkeypatch.setenv(WIDTH, width)
        structure = StructureRequest(SpaceSpec.of(RARE), 1, operations).run(lambda phase, index: None).structure
        assert structure is not None
        return structure

    before, after = (found(width, operations=False) for width in ("1", "2"))
    assert before.references == after.references
    assert before.difference(after).startswith(f"kernel={EDITED} has ")
    measured = found("1", operations=True)
    assert before.difference(measured) == measured.difference(before) == ""
    joined = replace(before, others=()).joined(replace(measured, others=measured.others[-1:]))
    assert joined.difference(found("2", operations=True)).startswith("conv has 8 parameters, 4 when")
    assert Structure.from_json(json.loads(json.dumps(measured.to_json()))) == measured


def test_a_space_that_cannot_be_built_has_no_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WIDTH, raising=False)
    assert StructureRequest(SpaceSpec.of(SPACE), 1).run(lambda phase, index: None).structure is None

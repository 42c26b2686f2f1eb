"""A store remembers what its space's references are made of: an edited space does not continue it."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from latbench.errors import StoreError
from latbench.measure.workers.structure import StructureRequest, _structure
from latbench.model import Model
from latbench.profiling import profile_space
from latbench.records.structure import NetworkStructure, Structure
from latbench.space import SpaceSpec
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
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum().item() > 0 else x


def test_what_cannot_be_traced_is_told_by_its_modules() -> None:
    def structure(width: int) -> NetworkStructure:
        return _structure(Model.from_module(Untraceable(width), {"x": np.ones((1, 3), np.float32)}))

    assert list(structure(5).operators) == ["module Untraceable", "layer Linear", "layer.weight 5x3", "layer.bias 5"]
    assert next(iter(structure(5).differences(structure(7)))) == "has 28 parameters, 20 when this store was made"


def test_a_space_that_cannot_be_built_has_no_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WIDTH, raising=False)
    assert StructureRequest(SpaceSpec.of(SPACE), 1).run(lambda phase, index: None).structure is None

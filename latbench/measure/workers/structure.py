"""What the references of a space are made of, found in a worker process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from latbench.executor import Notify
from latbench.model import Model
from latbench.records.structure import NetworkStructure, Structure
from latbench.records.subjects import REFERENCE_SEED, REFERENCES, Subject, operations, references, subject_model
from latbench.space import SearchSpace, SpaceSpec

DRAWN = 12
"""How many architectures, references included, are searched for every option of a space."""


@dataclass(frozen=True, slots=True)
class StructureResult:
    """The structure; None where a reference cannot be built, which the session that measures it will explain."""

    structure: Structure | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"structure": None if self.structure is None else self.structure.to_json()}


@dataclass(frozen=True, slots=True)
class StructureRequest:
    """Asks for the structure of a space's references, with sample inputs of this batch, and of its operations."""

    space: SpaceSpec
    batch: int
    operations: bool = False

    @property
    def threads(self) -> int:
        """Timing needs none."""
        return 1

    @property
    def max_seconds(self) -> float:
        """Nothing is measured."""
        return 0.0

    def to_json(self) -> str:
        """Write the request as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StructureRequest:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(SpaceSpec(**values["space"]), values["batch"], values["operations"])

    def run(self, notify: Notify) -> StructureResult:
        """Build the references in this process and read their structure."""
        space = self.space.create()
        try:
            found = [self._found(space, subject) for subject in references(space)]
        except Exception:  # noqa: BLE001 - building an architecture may raise anything
            return StructureResult(None)
        others = []
        for subject in _others(space, self.operations):
            with suppress(Exception):  # the session that measures it will explain
                others.append(self._found(space, subject))
        columns = tuple(column.name for column in space.columns)
        return StructureResult(Structure(columns, tuple(found), tuple(others)))

    def _found(self, space: SearchSpace[Any], subject: Subject) -> NetworkStructure:
        import torch

        torch.manual_seed(0)  # what a network runs may depend on its weights
        return _structure(subject_model(space, subject, batch=self.batch))

    def read_result(self, values: Mapping[str, Any]) -> Structure | None:
        """Read what `StructureResult.to_json` wrote."""
        structure = values["structure"]
        return None if structure is None else Structure.from_json(structure)


def _others(space: SearchSpace[Any], with_operations: bool) -> Iterator[Subject]:
    """Yield more architectures, until every group of columns occurs or enough are seen, and then operations."""
    groups = np.array([column.group for column in space.columns])
    drawn = space.sample(DRAWN, seed=REFERENCE_SEED)
    seen: set[str] = set()
    for number, (architecture, row) in enumerate(zip(drawn, space.encode(drawn), strict=True)):
        shown = set(groups[row != 0].tolist())
        if number >= REFERENCES and not shown <= seen:
            yield Subject("architecture", str(architecture))
        seen |= shown
    for key in operations(space) if with_operations else ():
        yield Subject("operation", key)


def _structure(model: Model) -> NetworkStructure:
    inputs = {name: f"{'x'.join(map(str, x.shape))}:{x.dtype}" for name, x in model.inputs.items()}
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    return NetworkStructure(model.name, inputs, parameters, *_operators(model))


def _operators(model: Model) -> tuple[dict[str, int], str]:
    """Return how often each operator runs, and the digest of how they are connected."""
    from latbench.measure.workers.calls import calls
    from latbench.tracing import trace
    from latbench.tracing.operators import traced_operators, wiring

    try:
        traced = trace(model.module, model.inputs)
        return dict(Counter(operator.key for operator in traced_operators(model.module, traced))), wiring(traced)
    except Exception:  # noqa: BLE001 - a forward pass may raise anything when it meets a stand-in for a tensor
        made = calls(model.module, model.inputs)
        return dict(Counter(made)), hashlib.sha256("\n".join(made).encode()).hexdigest()[:16]

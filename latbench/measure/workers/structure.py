"""What the references of a space are made of, found in a worker process."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latbench.executor import Notify
from latbench.measure.workers.request import workloads
from latbench.model import Model
from latbench.records.structure import NetworkStructure, Structure
from latbench.records.subjects import references
from latbench.space import SpaceSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class StructureResult:
    """The structure; None where a reference cannot be built, which the session that measures it will explain."""

    structure: Structure | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"structure": None if self.structure is None else self.structure.to_json()}


@dataclass(frozen=True, slots=True)
class StructureRequest:
    """Asks for the structure of a space's references, with sample inputs of this batch."""

    space: SpaceSpec
    batch: int

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
        return cls(SpaceSpec(**values["space"]), values["batch"])

    def run(self, notify: Notify) -> StructureResult:
        """Build the references in this process and read their structure."""
        space = self.space.create()
        try:
            models = [workload.build() for workload in workloads(references(space), space, self.batch)]
            found = tuple(map(_structure, models))
        except Exception:  # noqa: BLE001 - building an architecture may raise anything
            return StructureResult(None)
        return StructureResult(Structure(tuple(column.name for column in space.columns), found))

    def read_result(self, values: Mapping[str, Any]) -> Structure | None:
        """Read what `StructureResult.to_json` wrote."""
        structure = values["structure"]
        return None if structure is None else Structure.from_json(structure)


def _structure(model: Model) -> NetworkStructure:
    inputs = {name: f"{'x'.join(map(str, x.shape))}:{x.dtype}" for name, x in model.inputs.items()}
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    return NetworkStructure(model.name, inputs, parameters, _operators(model))


def _operators(model: Model) -> dict[str, int]:
    from latbench.tracing.operators import operators

    try:
        return dict(Counter(operator.key for operator in operators(model.module, model.inputs)))
    except Exception:  # noqa: BLE001 - a forward pass may raise anything when it meets a stand-in for a tensor
        return dict(Counter(_modules(model.module)))


def _modules(module: nn.Module) -> list[str]:
    weights = (f"{name} {'x'.join(map(str, value.shape))}" for name, value in module.state_dict().items())
    return [*(f"{name or 'module'} {type(child).__name__}" for name, child in module.named_modules()), *weights]

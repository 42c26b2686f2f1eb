"""What the references of a space are made of: the same text under an edited space is another network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

FORMAT = 1
"""Structures of another format are not compared."""


@dataclass(frozen=True, slots=True)
class NetworkStructure:
    """What one network is made of.

    Args:
        architecture: its string form.
        inputs: shape and type of its sample inputs by name, ``"1x3x32x32:float32"``.
        parameters: how many numbers it learns.
        operators: how often each operator runs, by what it is and its shapes; of a network that cannot be traced,
            its modules with their types and the shapes of their weights.
    """

    architecture: str
    inputs: Mapping[str, str]
    parameters: int
    operators: Mapping[str, int]

    def differences(self, now: NetworkStructure) -> Iterator[str]:
        """Yield what has changed, in words; of the operators, only the first one that has."""
        if self.architecture != now.architecture:
            yield f"is {now.architecture}, {self.architecture} when this store was made"
            return
        if self.inputs != now.inputs:
            yield f"takes {_inputs(now)}, {_inputs(self)} when this store was made"
        if self.parameters != now.parameters:
            yield f"has {now.parameters:,} parameters, {self.parameters:,} when this store was made"
        for operator in (*now.operators, *self.operators):
            before, after = self.operators.get(operator, 0), now.operators.get(operator, 0)
            if before != after:
                yield f"runs {operator} {_times(after)}, {_times(before)} when this store was made"
                return


@dataclass(frozen=True, slots=True)
class Structure:
    """What a space's encoding and its references are made of.

    Args:
        columns: the names of the encoding's columns.
        references: the networks that sessions measure as references.
    """

    columns: tuple[str, ...]
    references: tuple[NetworkStructure, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Structure | None:
        """Read what `to_json` wrote; None if that was another format."""
        if values["format"] != FORMAT:
            return None
        return cls(tuple(values["columns"]), tuple(NetworkStructure(**network) for network in values["references"]))

    def difference(self, now: Structure) -> str:
        """Return the first thing that has changed since a store was made, in words; empty where nothing has."""
        for number, (before, after) in enumerate(zip_longest(self.columns, now.columns), start=1):
            if before != after:
                return f"column {number} is {after or 'missing'}, {before or 'missing'} when this store was made"
        for number, (then, network) in enumerate(zip(self.references, now.references, strict=False), start=1):
            if told := list(then.differences(network)):
                return f"reference {number} {'; it '.join(told)}"
        if len(self.references) != len(now.references):
            return f"it has {len(now.references)} references, {len(self.references)} when this store was made"
        return ""


def _inputs(network: NetworkStructure) -> str:
    return ", ".join(f"{name}:{shape}" for name, shape in network.inputs.items())


def _times(count: int) -> str:
    return "not at all" if not count else "once" if count == 1 else f"{count} times"

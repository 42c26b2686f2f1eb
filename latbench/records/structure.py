"""What the references of a space are made of: the same text under an edited space is another network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any

FORMAT = 2
"""Structures of another format are not compared."""


@dataclass(frozen=True, slots=True)
class NetworkStructure:
    """What one network is made of.

    Args:
        architecture: its string form; of an operation, its key.
        inputs: shape and type of its sample inputs by name, ``"1x3x32x32:float32"``.
        parameters: how many numbers it learns.
        operators: how often each operator runs, by what it is and its shapes.
        wiring: digest of which operator feeds which, in which types.
    """

    architecture: str
    inputs: Mapping[str, str]
    parameters: int
    operators: Mapping[str, int]
    wiring: str

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
        if self.wiring != now.wiring:
            yield "connects the same operators otherwise, or in other types, than when this store was made"


@dataclass(frozen=True, slots=True)
class Structure:
    """What a space's encoding and its references are made of.

    Args:
        columns: the names of the encoding's columns.
        references: the networks that sessions measure as references.
        others: further architectures, so that every option occurs, and operations; compared where both know them.
    """

    columns: tuple[str, ...]
    references: tuple[NetworkStructure, ...]
    others: tuple[NetworkStructure, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Structure | None:
        """Read what `to_json` wrote; None if that was another format."""
        if values["format"] != FORMAT:
            return None
        references, others = (
            tuple(NetworkStructure(**network) for network in values[part]) for part in ("references", "others")
        )
        return cls(tuple(values["columns"]), references, others)

    def joined(self, now: Structure) -> Structure:
        """Return this with what only `now` knows: operations that are measured for the first time."""
        return replace(self, others=tuple({**_by_name(now.others), **_by_name(self.others)}.values()))

    def difference(self, now: Structure) -> str:
        """Return the first thing that has changed since a store was made, in words; empty where nothing has."""
        for number, (column, here) in enumerate(zip_longest(self.columns, now.columns), start=1):
            if column != here:
                return f"column {number} is {here or 'missing'}, {column or 'missing'} when this store was made"
        for number, (then, network) in enumerate(zip(self.references, now.references, strict=False), start=1):
            if told := list(then.differences(network)):
                return f"reference {number} {'; it '.join(told)}"
        if len(self.references) != len(now.references):
            return f"it has {len(now.references)} references, {len(self.references)} when this store was made"
        known = _by_name(now.others)
        for before in self.others:
            if before.architecture in known and (told := list(before.differences(known[before.architecture]))):
                return f"{before.architecture} {'; it '.join(told)}"
        return ""


def _by_name(networks: Iterable[NetworkStructure]) -> dict[str, NetworkStructure]:
    return {network.architecture: network for network in networks}


def _inputs(network: NetworkStructure) -> str:
    return ", ".join(f"{name}:{shape}" for name, shape in network.inputs.items())


def _times(count: int) -> str:
    return "not at all" if not count else "once" if count == 1 else f"{count} times"

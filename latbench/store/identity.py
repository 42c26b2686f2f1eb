"""What a store is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latbench.space import SpaceSpec

IMPORTED = "imported"
"""The backend of a store that was imported: nothing can be measured for it here."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a store is for: a profile with another identity goes into another store."""

    space: SpaceSpec
    backend: str
    precision: str
    threads: int
    batch: int
    cache: str
    options: Mapping[str, str]

    def differences(self, other: Identity) -> list[str]:
        """Return ``"threads (1 there, 2 here)"`` for every field and every option that differs."""
        names = [f.name for f in dataclasses.fields(self) if f.name != "options"]
        pairs: list[tuple[str, Any, Any]] = [(name, getattr(self, name), getattr(other, name)) for name in names]
        options = dict.fromkeys((*self.options, *other.options))
        pairs += [(f"options.{key}", self.options.get(key), other.options.get(key)) for key in options]
        return [f"{name} ({mine} there, {theirs} here)" for name, mine, theirs in pairs if mine != theirs]

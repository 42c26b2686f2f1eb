"""What is measured: subjects by kind and text, those that ride along in every session, and what failed."""

from __future__ import annotations

from dataclasses import dataclass

from latbench.records.measurement import SubjectKind
from latbench.space import Operation, SearchSpace

REFERENCES = 3
_REFERENCE_SEED = 20200
"""Draws the references of a space; part of what makes two profiles comparable, so it never changes."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What to measure: an architecture's string form, an operation's key, or an ONNX file or ``module:factory``."""

    kind: SubjectKind
    text: str
    replicate: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that could not be measured, and why; `crowded` where memory ran out, which it might not alone."""

    kind: SubjectKind
    subject: str
    reason: str
    replicate: int = 0
    crowded: bool = False


def references(space: SearchSpace) -> tuple[Subject, ...]:
    """Return the fixed architectures of a space that ride along in every session."""
    return tuple(Subject("reference", str(a)) for a in space.sample(REFERENCES, seed=_REFERENCE_SEED))


def operations(space: SearchSpace) -> dict[str, Operation]:
    """Return the distinct operations of a space by key, in the order of its columns."""
    return {operation.key: operation for column in space.columns for operation in column.operations}

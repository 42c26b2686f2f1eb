"""What is measured: subjects by kind and text, their models, the references of a session, and what failed."""

from __future__ import annotations

from dataclasses import dataclass

from latbench.errors import ParseError
from latbench.model import Model, evaluated
from latbench.records.measurement import SubjectKind
from latbench.space import Architecture, HasOperations, HasParts, SearchSpace, SpaceSpec

REFERENCES = 3
REFERENCE_SEED = 20200
"""Draws the references of a space; part of what makes two profiles comparable, so it never changes."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What to measure: an architecture's text, ``"text#name"`` of its part, an operation's key, a model's source."""

    kind: SubjectKind
    text: str
    replicate: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that could not be measured, and why; `crowded` if memory ran out, and might suffice for it alone."""

    kind: SubjectKind
    subject: str
    reason: str
    replicate: int = 0
    crowded: bool = False


def references(space: SearchSpace) -> tuple[Subject, ...]:
    """Return the fixed architectures of a space that every session measures."""
    return tuple(Subject("reference", str(a)) for a in space.sample(REFERENCES, seed=REFERENCE_SEED))


def operations(space: SearchSpace) -> tuple[str, ...]:
    """Return the keys of a space's distinct operations, in the order of its terms; none where it has no operations."""
    terms = space.terms() if isinstance(space, HasOperations) else ()
    return tuple(dict.fromkeys(key for term in terms for key in term.operations))


def architecture_model(space: SearchSpace, architecture: Architecture, *, batch: int = 1) -> Model:
    """Return an architecture with its sample inputs."""
    inputs = space.inputs(architecture, batch=batch)
    return Model(str(architecture), inputs, module=lambda: evaluated(space.build(architecture)), batch=batch)


def subject_model(space: SearchSpace, subject: Subject, *, batch: int = 1) -> Model:
    """Return the model that a subject of a space stands for, with its sample inputs.

    Raises:
        ParseError: the space has no such architecture, part or operation.
    """
    if subject.kind == "operation":
        if not isinstance(space, HasOperations):
            raise ParseError(f"{SpaceSpec.of(space)} has no operations: measure its architectures alone")
        model = space.operation(subject.text, batch=batch)
        model.batch = batch
        return model
    if subject.kind == "part":
        return _part(space, subject.text, batch)
    return architecture_model(space, space.parse(subject.text), batch=batch)


def _part(space: SearchSpace, text: str, batch: int) -> Model:
    whole, _, name = text.rpartition("#")
    architecture = space.parse(whole)
    parts = space.parts(architecture) if isinstance(space, HasParts) else {}
    if name not in parts:
        raise ParseError(f"no part {name!r} of {whole}: it has {', '.join(parts) or 'none'}")
    inputs = space.inputs(architecture, batch=batch)
    return Model(text, inputs, module=lambda: evaluated(parts[name]), batch=batch)

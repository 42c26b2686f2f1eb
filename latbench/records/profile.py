"""A profile: many measurements of one search space on one backend, as plain arrays for fitting and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError, UsageError, did_you_mean
from latbench.predictor import Context, Cost, Source
from latbench.records.measurement import Conditions, Measurement
from latbench.space import Architecture, HasGraph, HasOperations, SearchSpace, SpaceSpec, Term


@dataclass(frozen=True)
class Profile:
    """The measurements of one store.

    Args:
        space: the search space that was sampled.
        conditions: what all measurements share.
        measurements: in the order of storing: architectures, their blind duplicates, operations, references.
    """

    space: SearchSpace
    conditions: Conditions
    measurements: tuple[Measurement, ...]

    @cached_property
    def first(self) -> tuple[Measurement, ...]:
        """The first measurement of every architecture: what predictors are fitted to."""
        return tuple(m for m in self.measurements if m.kind == "architecture" and m.replicate == 0)

    @cached_property
    def architectures(self) -> list[Architecture]:
        """The measured architectures, in the order of `X`, `y` and `groups`."""
        return [self.space.parse(m.subject) for m in self.first]

    @cached_property
    def X(self) -> NDArray[np.float32]:  # noqa: N802 - scikit-learn's name
        """Encodings ``(n, columns)``.

        Raises:
            DataError: nothing has been measured.
        """
        if not self.first:
            raise DataError("this profile holds no measured architecture: run 'latbench profile' first")
        return self.space.encode(self.architectures)

    @cached_property
    def y(self) -> NDArray[np.float64]:
        """Measured values ``(n,)`` in the conditions' unit, with the drift between sessions divided out."""
        return np.array([self.value(m) for m in self.first])

    @cached_property
    def groups(self) -> list[str]:
        """Canonical texts ``(n,)``: isomorphic architectures share one, and never straddle train and test."""
        return [self.space.canonical(architecture) for architecture in self.architectures]

    @cached_property
    def duplicates(self) -> NDArray[np.float64]:
        """Pairs ``(pairs, 2)``: the first value of an architecture and that of a blind duplicate."""
        first = {m.subject: self.value(m) for m in self.first}
        again = [m for m in self.measurements if m.kind == "architecture" and m.replicate > 0 and m.subject in first]
        return np.array([(first[m.subject], self.value(m)) for m in again]).reshape(-1, 2)

    @cached_property
    def operation_costs(self) -> Mapping[str, float]:
        """The operator table: measured value by the operation's key; empty where none was measured."""
        return {m.subject: self.value(m) for m in self.measurements if m.kind == "operation"}

    @cached_property
    def reference(self) -> float | None:
        """The median over sessions of what the references took; None where none were measured."""
        sessions = {m.session: m.reference for m in self.measurements if m.reference is not None}
        return float(np.median(list(sessions.values()))) if sessions else None

    def value(self, measurement: Measurement) -> float:
        """Return a measured value as the median session would have given it: scaled by its session's references."""
        return measurement.scaled_to(self.reference).value

    @property
    def has_operations(self) -> bool:
        """Whether the space says which operations its networks are made of."""
        return bool(terms_of(self.space))

    def context(self, sources: Sequence[Profile] = ()) -> Context:
        """Return what the space, this profile and other devices' profiles tell beyond `X` and `y`.

        Args:
            sources: profiles of the same space, quantity and unit.

        Raises:
            DataError: a source differs in one of these, or holds no architecture.
        """
        graphs = tuple(self.space.graphs()) if isinstance(self.space, HasGraph) else ()
        return Context(tuple(self.space.columns), self._costs(), tuple(map(self._source, sources)), graphs)

    def _costs(self) -> tuple[Cost, ...] | None:
        """Return the operator table by columns; None where the space has no operations, or one was not measured."""
        table, terms = self.operation_costs, terms_of(self.space)
        if not terms or any(key not in table for term in terms for key in term.operations):
            return None
        number = {column.name: index for index, column in enumerate(self.space.columns)}
        costs: dict[tuple[int, ...], float] = {}
        for term in terms:
            if unknown := [name for name in term.columns if name not in number]:
                remedy = did_you_mean(unknown[0], number)
                raise UsageError(f"a term of {SpaceSpec.of(self.space)} has no column {unknown[0]!r}: {remedy}")
            place = tuple(sorted(number[name] for name in term.columns))
            costs[place] = costs.get(place, 0.0) + sum(table[key] * count for key, count in term.operations.items())
        return tuple(Cost(columns, value) for columns, value in costs.items())

    def _source(self, other: Profile) -> Source:
        here, there = self.conditions, other.conditions
        fields = {
            "space": (SpaceSpec.of(self.space), SpaceSpec.of(other.space)),
            "quantity": (here.quantity, there.quantity),
            "unit": (here.unit, there.unit),
        }
        name = f"{there.device.name} ({there.backend})"
        for field, (own, given) in fields.items():
            if own != given:
                raise DataError(f"source {name} differs in {field}: {given}, not {own}: give one with the same {field}")
        if not (np.isfinite(other.y) & (other.y > 0)).all():
            raise DataError(f"source {name} holds a label that is not positive and finite: correct or drop that row")
        return Source(name, other.X, other.y)


def terms_of(space: SearchSpace) -> Sequence[Term]:
    """Return the terms of a space: which operations run where; none where it has no operations."""
    return space.terms() if isinstance(space, HasOperations) else ()

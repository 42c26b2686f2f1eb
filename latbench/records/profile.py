"""A profile: many measurements of one search space on one backend, as plain arrays for fitting and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError
from latbench.predictor import ColumnFacts
from latbench.records.measurement import Conditions, Measurement
from latbench.space import Architecture, HasOperations, SearchSpace


@dataclass(frozen=True)
class Profile:
    """The measurements of one store.

    Args:
        space: the search space that was sampled.
        conditions: what all measurements share.
        measurements: in the order they were stored; architectures, their blind duplicates, operations, references.
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
        """One-hot encodings ``(n, columns)``.

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
        """The median over sessions of what the references took; None where none rode along."""
        sessions = {m.session: m.reference for m in self.measurements if m.reference is not None}
        return float(np.median(list(sessions.values()))) if sessions else None

    def value(self, measurement: Measurement) -> float:
        """Return a measured value as the median session would have given it: scaled by its session's references."""
        return measurement.scaled_to(self.reference).value

    def column_facts(self) -> ColumnFacts:
        """Return what the space and this profile know about an encoding's columns."""
        columns = self.space.columns
        groups = tuple(column.group for column in columns)
        table = self.operation_costs
        terms = self.space.terms() if isinstance(self.space, HasOperations) else ()
        if any(len(term.columns) > 1 or term.operations.keys() - table.keys() for term in terms):
            return ColumnFacts(groups)
        costs = dict.fromkeys((column.name for column in columns), 0.0)
        for term in terms:
            costs[term.columns[0]] += sum(table[key] * count for key, count in term.operations.items())
        return ColumnFacts(groups, tuple(costs.values()))

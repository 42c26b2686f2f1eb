"""The contract of a space's operations as tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from latbench.errors import ParseError
from latbench.testing.space_suites.base import SpaceSuite


class OperationsSuite(SpaceSuite):
    """Every promise of `latbench.space.HasOperations`."""

    def test_terms_run_operations_where_columns_say(self) -> None:
        """Each names columns of the space, and at least one operation that runs once or more."""
        space = self.create()
        names = {column.name for column in space.columns}
        terms = space.terms()
        assert terms
        for term in terms:
            assert term.columns
            assert set(term.columns) <= names
            assert term.operations
            assert all(isinstance(count, int) and count > 0 for count in term.operations.values())

    def test_columns_of_one_group_do_the_same_work(self) -> None:
        """Few-sample predictors shrink their costs together."""
        space = self.create()
        own: dict[str, Mapping[str, int]] = {term.columns[0]: term.operations for term in space.terms()}
        if any(len(term.columns) > 1 for term in space.terms()):
            pytest.skip("what a column costs depends on other ones")
        work: dict[str, Mapping[str, int]] = {}
        for column in space.columns:
            operations = own.get(column.name, {})
            assert operations == work.setdefault(column.group, operations), column.name

    def test_operations_run_alone(self) -> None:
        """A lookup table measures each by itself, under its key."""
        space = self.create()
        for key in {key for term in space.terms() for key in term.operations}:
            model = space.operation(key, batch=2)
            assert model.name == key
            assert all(value.shape[0] == 2 for value in model.inputs.values())
            assert all(np.isfinite(output).all() for output in model.reference_outputs()), key

    def test_other_keys_are_refused(self) -> None:
        """The store is of another space."""
        with pytest.raises(ParseError):
            self.create().operation("no operation", batch=1)

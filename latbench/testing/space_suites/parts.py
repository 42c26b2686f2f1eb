"""The contract of a space's parts as tests."""

from __future__ import annotations

import numpy as np
import pytest

from latbench.errors import ParseError
from latbench.records.subjects import Subject, subject_model
from latbench.testing.space_suites.base import SpaceSuite


class PartsSuite(SpaceSuite):
    """Every promise of `latbench.space.HasParts`."""

    def test_parts_run_on_the_architecture_s_inputs(self) -> None:
        """Each is a subject of its own, found again by its text."""
        space = self.create()
        found = 0
        for architecture in self.architectures(3):
            for name in space.parts(architecture):
                assert "#" not in name
                model = subject_model(space, Subject("part", f"{architecture}#{name}"))
                assert list(model.inputs) == list(space.inputs(architecture, batch=1))
                assert all(np.isfinite(output).all() for output in model.reference_outputs())
                found += 1
        assert found

    def test_other_parts_are_refused(self) -> None:
        """The store is of another space."""
        (architecture,) = self.architectures(1)[:1]
        with pytest.raises(ParseError):
            subject_model(self.create(), Subject("part", f"{architecture}#no part"))

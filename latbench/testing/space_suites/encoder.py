"""The contract of an encoder as tests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
import pytest

from latbench.errors import ParseError, UsageError
from latbench.space import SpaceSpec
from latbench.testing.space_suites.base import SpaceSuite


class EncoderSuite(SpaceSuite):
    """Every promise of `latbench.space.Encoder`.

    Attributes:
        texts: some architectures, for a space that cannot draw any.
    """

    texts: ClassVar[Sequence[str]] = ()

    def architectures(self, n: int, *, seed: int = 0) -> Sequence[Any]:
        """Return some architectures: those of `texts`, or drawn ones."""
        space = self.create()
        return [space.parse(text) for text in self.texts] if self.texts else space.sample(n, seed=seed)

    def test_it_can_be_written_down_and_created_again(self) -> None:
        """`SpaceSpec` holds all that a space depends on."""
        space = self.create()
        spec = SpaceSpec.of(space)
        assert spec.name == self.space
        again = spec.create()
        assert again == space
        assert hash(again) == hash(space)

    def test_an_unknown_configuration_is_a_usage_error(self) -> None:
        """The user misspelt a keyword."""
        with pytest.raises(UsageError):
            SpaceSpec(self.space, {**self.config, "no_such_field": 1}).create()

    def test_texts_parse_back(self) -> None:
        """Stores hold architectures as text."""
        space = self.create()
        for architecture in self.architectures(50):
            again = space.parse(str(architecture))
            assert again == architecture
            assert hash(again) == hash(architecture)
            assert space.canonical(again) == space.canonical(architecture)

    def test_texts_that_are_no_architecture_are_refused(self) -> None:
        """The user pasted something else, or only a part of a text."""
        space = self.create()
        for text in ("", "no architecture"):
            with pytest.raises(ParseError):
                space.parse(text)
        whole = str(self.architectures(1)[0])
        for text in (whole[: len(whole) // 2], whole + whole):
            with suppress(ParseError):
                assert str(space.parse(text)) == text

    def test_columns_have_names_of_their_own(self) -> None:
        """Tables and messages tell them apart."""
        columns = self.create().columns
        assert columns
        assert len({column.name for column in columns}) == len(columns)

    def test_encodings_are_finite_and_depend_on_the_architecture_alone(self) -> None:
        """One row an architecture, as long as the columns."""
        space = self.create()
        architectures = self.architectures(20, seed=1)
        encodings = space.encode(architectures)
        assert encodings.dtype == np.float32
        assert encodings.shape == (len(architectures), len(space.columns))
        assert np.isfinite(encodings).all()
        for architecture, encoding in zip(architectures, encodings, strict=True):
            np.testing.assert_array_equal(space.encode([architecture])[0], encoding)

    def test_no_architecture_has_an_encoding_of_no_rows(self) -> None:
        """Empty in, empty out."""
        space = self.create()
        assert space.encode([]).shape == (0, len(space.columns))

    def test_some_encodings_differ(self) -> None:
        """A predictor has something to learn from."""
        assert len(np.unique(self.create().encode(self.architectures(20, seed=2)), axis=0)) > 1

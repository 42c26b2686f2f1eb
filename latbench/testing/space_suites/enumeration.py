"""The contract of a space that can be listed as tests."""

from __future__ import annotations

from latbench.testing.space_suites.base import SpaceSuite


class EnumerateSuite(SpaceSuite):
    """Every promise of `latbench.space.HasEnumerate`."""

    def test_every_architecture_is_listed_once(self) -> None:
        """Also those that are drawn."""
        listed = list(self.create().enumerate())
        assert len(set(listed)) == len(listed)
        assert set(self.architectures(50)) <= set(listed)

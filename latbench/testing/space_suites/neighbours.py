"""The contract of a space's small steps as tests."""

from __future__ import annotations

from latbench.testing.space_suites.base import SpaceSuite


class NeighboursSuite(SpaceSuite):
    """Every promise of `latbench.space.HasNeighbours`."""

    def test_mutations_are_other_architectures_and_depend_on_the_seed_alone(self) -> None:
        """A search that is continued takes the same steps."""
        space = self.create()
        (parent,) = self.architectures(1)[:1]
        children = [space.mutate(parent, seed=seed) for seed in range(20)]
        assert children == [space.mutate(parent, seed=seed) for seed in range(20)]
        assert parent not in children
        assert len(set(children)) > 1
        assert all(space.parse(str(child)) == child for child in children)

    def test_children_take_after_their_parents(self) -> None:
        """Those of equal parents are like them; others are architectures, and depend on the seed alone."""
        space = self.create()
        first, second = self.architectures(2)[:2]
        assert space.cross(first, first, seed=0) == first
        children = [space.cross(first, second, seed=seed) for seed in range(20)]
        assert children == [space.cross(first, second, seed=seed) for seed in range(20)]
        assert len(set(children)) > 1
        assert all(space.parse(str(child)) == child for child in children)

"""Every registered search space keeps the contracts that it implements, and so does a space made of decisions."""

from latbench import plugins
from latbench.space import HasEnumerate, HasGraph, HasNeighbours, HasOperations, HasParts, HasSupernet, Relaxable
from latbench.testing import (
    EnumerateSuite,
    GraphSuite,
    NeighboursSuite,
    OperationsSuite,
    PartsSuite,
    RelaxableSuite,
    SearchSpaceSuite,
    SupernetSuite,
)

_SUITES = {
    Relaxable: RelaxableSuite,
    HasSupernet: SupernetSuite,
    HasOperations: OperationsSuite,
    HasGraph: GraphSuite,
    HasParts: PartsSuite,
    HasNeighbours: NeighboursSuite,
    HasEnumerate: EnumerateSuite,
}


def _suite(space: str) -> type:
    built = plugins.configure(plugins.SPACES, space, {})
    suites = [suite for protocol, suite in _SUITES.items() if isinstance(built, protocol)]
    return type(f"Test_{space.rpartition(':')[2]}", (SearchSpaceSuite, *suites), {"space": space})


for _space in (*plugins.names(plugins.SPACES), "tests.test_space_choices:Towers", "tests.test_space_tokens:Tokens"):
    globals()[f"Test_{_space}"] = _suite(_space)

from typing import ClassVar

from latbench.testing import NeighboursSuite, RelaxableSuite, SearchSpaceSuite


class TestMobileNet(SearchSpaceSuite, RelaxableSuite, NeighboursSuite):
    space = "mobilenet"
    config: ClassVar = {"width": 0.25}

"""The contracts of `latbench.space` as tests, one suite a protocol: a space's test file is one class of those it keeps.

from latbench.testing import OperationsSuite, RelaxableSuite, SearchSpaceSuite


class TestMySpace(SearchSpaceSuite, RelaxableSuite, OperationsSuite):
space = "myspace"
"""

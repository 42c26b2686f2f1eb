from latbench.testing import BackendSuite


class TestFlops(BackendSuite):
    backend = "flops"

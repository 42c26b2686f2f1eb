"""Contract suites for plug-ins, and the ``null`` backend of known cost.

A plug-in's test file is one subclass::

    from latbench.testing import BackendSuite


    class TestSleep(BackendSuite):
        backend = "sleep"
"""

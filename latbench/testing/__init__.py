"""Contract suites for plug-ins, the ``null`` backend of known latency, and meters of known energy.

A plug-in's test file is one subclass::

    from latbench.testing import BackendSuite


    class TestSleep(BackendSuite):
        backend = "sleep"

The suites need pytest, the others do not: each name loads when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latbench.testing.backend_suite import BackendSuite
    from latbench.testing.meter_suite import MeterSuite
    from latbench.testing.meters import NullMeter, ScriptedMeter
    from latbench.testing.null import NullBackend
    from latbench.testing.predictor_suite import PredictorSuite
    from latbench.testing.space_suite import SpaceSuite

_HOMES = {
    "BackendSuite": "backend_suite",
    "MeterSuite": "meter_suite",
    "NullBackend": "null",
    "NullMeter": "meters",
    "PredictorSuite": "predictor_suite",
    "ScriptedMeter": "meters",
    "SpaceSuite": "space_suite",
}

__all__ = [
    "BackendSuite",
    "MeterSuite",
    "NullBackend",
    "NullMeter",
    "PredictorSuite",
    "ScriptedMeter",
    "SpaceSuite",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latbench.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"latbench.testing.{_HOMES[name]}"), name)

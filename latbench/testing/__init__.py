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
    from latbench.testing.known_cost import KnownCost
    from latbench.testing.meter_suite import MeterSuite
    from latbench.testing.meters import NullMeter, ScriptedMeter
    from latbench.testing.null import NullBackend
    from latbench.testing.predictor_suite import PredictorSuite
    from latbench.testing.space_suite import SpaceSuite
    from latbench.testing.strategy_suite import StrategySuite
    from latbench.testing.task_suite import TaskSuite

_HOMES = {
    "BackendSuite": "backend_suite",
    "KnownCost": "known_cost",
    "MeterSuite": "meter_suite",
    "NullBackend": "null",
    "NullMeter": "meters",
    "PredictorSuite": "predictor_suite",
    "ScriptedMeter": "meters",
    "SpaceSuite": "space_suite",
    "StrategySuite": "strategy_suite",
    "TaskSuite": "task_suite",
}

__all__ = [
    "BackendSuite",
    "KnownCost",
    "MeterSuite",
    "NullBackend",
    "NullMeter",
    "PredictorSuite",
    "ScriptedMeter",
    "SpaceSuite",
    "StrategySuite",
    "TaskSuite",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latbench.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"latbench.testing.{_HOMES[name]}"), name)

"""Contract suites for plug-ins, and fakes whose truth is known: a backend, meters, a predictor, a space.

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
    from latbench.testing.executor_suite import ExecutorSuite
    from latbench.testing.known_cost import KnownCost
    from latbench.testing.meter_suite import MeterSuite
    from latbench.testing.meters import NullMeter, ScriptedMeter
    from latbench.testing.null import NullBackend
    from latbench.testing.predictor_suite import PredictorSuite
    from latbench.testing.probe import Probe
    from latbench.testing.space_suites.encoder import EncoderSuite
    from latbench.testing.space_suites.enumeration import EnumerateSuite
    from latbench.testing.space_suites.graph import GraphSuite
    from latbench.testing.space_suites.neighbours import NeighboursSuite
    from latbench.testing.space_suites.operations import OperationsSuite
    from latbench.testing.space_suites.parts import PartsSuite
    from latbench.testing.space_suites.relaxation import RelaxableSuite, RelaxationSuite
    from latbench.testing.space_suites.search_space import SearchSpaceSuite
    from latbench.testing.space_suites.supernet import SupernetSuite
    from latbench.testing.strategy_suite import StrategySuite
    from latbench.testing.task_suite import TaskSuite
    from latbench.testing.tiny_space import TinySpace

_HOMES = {
    "BackendSuite": "backend_suite",
    "EncoderSuite": "space_suites.encoder",
    "EnumerateSuite": "space_suites.enumeration",
    "ExecutorSuite": "executor_suite",
    "GraphSuite": "space_suites.graph",
    "KnownCost": "known_cost",
    "MeterSuite": "meter_suite",
    "NeighboursSuite": "space_suites.neighbours",
    "NullBackend": "null",
    "NullMeter": "meters",
    "OperationsSuite": "space_suites.operations",
    "PartsSuite": "space_suites.parts",
    "PredictorSuite": "predictor_suite",
    "Probe": "probe",
    "RelaxableSuite": "space_suites.relaxation",
    "RelaxationSuite": "space_suites.relaxation",
    "ScriptedMeter": "meters",
    "SearchSpaceSuite": "space_suites.search_space",
    "StrategySuite": "strategy_suite",
    "SupernetSuite": "space_suites.supernet",
    "TaskSuite": "task_suite",
    "TinySpace": "tiny_space",
}

__all__ = [
    "BackendSuite",
    "EncoderSuite",
    "EnumerateSuite",
    "ExecutorSuite",
    "GraphSuite",
    "KnownCost",
    "MeterSuite",
    "NeighboursSuite",
    "NullBackend",
    "NullMeter",
    "OperationsSuite",
    "PartsSuite",
    "PredictorSuite",
    "Probe",
    "RelaxableSuite",
    "RelaxationSuite",
    "ScriptedMeter",
    "SearchSpaceSuite",
    "StrategySuite",
    "SupernetSuite",
    "TaskSuite",
    "TinySpace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latbench.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"latbench.testing.{_HOMES[name]}"), name)

"""Measure, predict and search the latency of neural architectures on any hardware.

The public names load when they are first used: ``import latbench`` imports neither torch nor any other heavy library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from latbench import errors

if TYPE_CHECKING:
    from latbench.backend import Backend, Compiled, CompileOptions, Device
    from latbench.measure.one_model.sessions import measure_model
    from latbench.measure.settings import Settings
    from latbench.meter import Meter
    from latbench.model import Model
    from latbench.prediction.evaluation.comparison import compare
    from latbench.prediction.file import load_predictor, save_predictor
    from latbench.prediction.fit import fit
    from latbench.prediction.trained import TrainedPredictor
    from latbench.predictor import DifferentiablePredictor, Predictor
    from latbench.profiling import profile_space
    from latbench.profiling.architectures import measure_architectures
    from latbench.records.measurement import Conditions, Measurement
    from latbench.records.profile import Profile
    from latbench.search.objectives.latency_loss import LatencyLoss
    from latbench.search.strategies.darts import search_architecture
    from latbench.space import Architecture, SearchSpace, SpaceSpec
    from latbench.store import Store

    __version__: str

_HOMES = {
    "Architecture": "space",
    "Backend": "backend",
    "CompileOptions": "backend",
    "Compiled": "backend",
    "Conditions": "records.measurement",
    "Device": "backend",
    "DifferentiablePredictor": "predictor",
    "LatencyLoss": "search.objectives.latency_loss",
    "Measurement": "records.measurement",
    "Meter": "meter",
    "Model": "model",
    "Predictor": "predictor",
    "Profile": "records.profile",
    "SearchSpace": "space",
    "Settings": "measure.settings",
    "SpaceSpec": "space",
    "Store": "store",
    "TrainedPredictor": "prediction.trained",
    "compare": "prediction.evaluation.comparison",
    "fit": "prediction.fit",
    "load_predictor": "prediction.file",
    "measure_architectures": "profiling.architectures",
    "measure_model": "measure.one_model.sessions",
    "profile_space": "profiling",
    "save_predictor": "prediction.file",
    "search_architecture": "search.strategies.darts",
}

__all__ = [
    "Architecture",
    "Backend",
    "CompileOptions",
    "Compiled",
    "Conditions",
    "Device",
    "DifferentiablePredictor",
    "LatencyLoss",
    "Measurement",
    "Meter",
    "Model",
    "Predictor",
    "Profile",
    "SearchSpace",
    "Settings",
    "SpaceSpec",
    "Store",
    "TrainedPredictor",
    "__version__",
    "compare",
    "errors",
    "fit",
    "load_predictor",
    "measure_architectures",
    "measure_model",
    "profile_space",
    "save_predictor",
    "search_architecture",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("latbench")
    if name not in _HOMES:
        raise AttributeError(f"module 'latbench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"latbench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

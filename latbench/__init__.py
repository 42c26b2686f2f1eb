"""Measure, predict and search the latency of neural architectures on any hardware.

The public names load when they are first used: ``import latbench`` imports neither torch nor any other heavy library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from latbench import errors

if TYPE_CHECKING:
    from latbench.backend import Backend, Compiled, CompileOptions, Device
    from latbench.evaluation.comparison import compare
    from latbench.fitting import fit
    from latbench.measure import measure_architectures, measure_model
    from latbench.measure.settings import Settings
    from latbench.measurement import Conditions, Measurement
    from latbench.meter import Meter
    from latbench.model import Model
    from latbench.predictor import DifferentiablePredictor, Predictor
    from latbench.predictor_file import load_predictor, save_predictor
    from latbench.profile import Profile
    from latbench.profiling import profile_space
    from latbench.search.darts import search_architecture
    from latbench.search.latency_loss import LatencyLoss
    from latbench.space import Architecture, SearchSpace, SpaceSpec
    from latbench.store import Store
    from latbench.trained_predictor import TrainedPredictor

    __version__: str

_HOMES = {
    "Architecture": "space",
    "Backend": "backend",
    "CompileOptions": "backend",
    "Compiled": "backend",
    "Conditions": "measurement",
    "Device": "backend",
    "DifferentiablePredictor": "predictor",
    "LatencyLoss": "search.latency_loss",
    "Measurement": "measurement",
    "Meter": "meter",
    "Model": "model",
    "Predictor": "predictor",
    "Profile": "profile",
    "SearchSpace": "space",
    "Settings": "measure.settings",
    "SpaceSpec": "space",
    "Store": "store",
    "TrainedPredictor": "trained_predictor",
    "compare": "evaluation.comparison",
    "fit": "fitting",
    "load_predictor": "predictor_file",
    "measure_architectures": "measure",
    "measure_model": "measure",
    "profile_space": "profiling",
    "save_predictor": "predictor_file",
    "search_architecture": "search.darts",
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

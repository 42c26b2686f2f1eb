"""Search: objectives, relaxations, strategies, tasks, and campaigns that measure what was found.

The names below load when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Classification": "tasks.classification",
    "DartsStrategy": "strategies.darts",
    "DualAscent": "objectives.dual_ascent",
    "Epoch": "strategies.result",
    "Found": "verification",
    "Images": "tasks.images",
    "LatencyLoss": "objectives.latency_loss",
    "Objective": "objectives.objective",
    "RandomStrategy": "strategies.random",
    "SearchResult": "strategies.result",
    "SearchSettings": "strategies.result",
    "Temperature": "objectives.temperature",
    "Together": "objectives.together",
    "TrainingSettings": "tasks.training",
    "Verification": "verification",
    "WarmUp": "objectives.warm_up",
    "load_images": "tasks.images",
    "search_architecture": "strategies.darts",
    "train_architecture": "tasks.training",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'latbench.search' has no attribute {name!r}")
    return getattr(importlib.import_module(f"latbench.search.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)

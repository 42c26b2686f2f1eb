"""What a strategy needs of a space beyond what every space has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from latbench.errors import PluginError, UsageError
from latbench.plugins import STRATEGIES, load, names

if TYPE_CHECKING:
    from latbench.space import SearchSpace


def check_requirements(strategy: str, requires: Sequence[str], space: SearchSpace[Any]) -> None:
    """Refuse a space that lacks methods which a strategy calls, before any hour is spent.

    Args:
        strategy: its name, for the message.
        requires: methods beyond `latbench.space.SearchSpace`, ``("relaxation", "supernet")``. A strategy that says so
            in a class attribute ``requires`` is not recommended for other spaces.
        space: the space.

    Raises:
        UsageError: one is missing; the message names the registered strategies that can search the space.
    """
    missing = [method for method in requires if not hasattr(space, method)]
    if missing:
        able = " or ".join(repr(name) for name in _able(space))
        raise UsageError(
            f"strategy {strategy!r} needs a space with {_methods(requires)}, and space {space.name!r} has no "
            f"{_methods(missing)}: {f'use strategy {able}' if able else 'give the space these methods'}"
        )


def _able(space: SearchSpace[Any]) -> list[str]:
    """Return the strategies that load here and that find in a space what they say that they need."""
    found = []
    for name in names(STRATEGIES):
        try:
            strategy = load(STRATEGIES, name)
        except PluginError:
            continue
        if all(hasattr(space, method) for method in getattr(strategy, "requires", ())):
            found.append(name)
    return found


def _methods(names: Sequence[str]) -> str:
    return " and ".join(f"{name}()" for name in names)

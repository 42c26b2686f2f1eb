"""What tells one search from another on disk: a search continues its own state and no other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import UsageError

if TYPE_CHECKING:
    from latbench.space import SearchSpace

Identity = Mapping[str, str | int | float | None]
"""What must be equal for a search to continue a saved one: space, task, settings, objectives."""


def check_identity(path: Path, there: Mapping[str, Any], here: Identity) -> None:
    """Refuse the state of another search.

    Args:
        path: the file that holds it, for the message.
        there: the identity in the file.
        here: the identity of this search.

    Raises:
        UsageError: they differ; the message names the first difference.
    """
    for name in (*here, *there):
        if there.get(name) != here.get(name):
            raise UsageError(
                f"{path} belongs to another search: {name} is {there.get(name)!r} there and {here.get(name)!r} here; "
                "choose another folder"
            )


def space_identity(space: SearchSpace[Any]) -> str:
    """Return the name and the configuration of a space: ``"nasbench201(cells=1, channels=4)"``."""
    if not dataclasses.is_dataclass(space):
        return repr(space)
    config = ", ".join(f"{field.name}={getattr(space, field.name)!r}" for field in dataclasses.fields(space))
    return f"{space.name}({config})"

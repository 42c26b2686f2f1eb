"""The option ``--sources`` of ``fit`` and ``compare``: stores of other devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from latbench.records.profile import Profile

Sources = Annotated[
    list[Path] | None,
    typer.Option(
        help="The store of another device with the same space, for predictors that learn from it; repeatable."
    ),
]


def profile_and_sources(
    store: Path, sources: list[Path] | None, quantity: str | None
) -> tuple[Profile, tuple[Profile, ...]]:
    """Read a store's profile and the same quantity of other stores."""
    from latbench.store import Store

    with Store(store, quantity=quantity) as opened:
        profile = opened.profile()
    others = []
    for path in sources or []:
        with Store(path, quantity=quantity) as opened:
            others.append(opened.profile())
    return profile, tuple(others)

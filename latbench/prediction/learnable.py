"""Profile -> what predictors learn from and are tested on, with what the space's graphs tell about it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError
from latbench.prediction.structure.networks import are_alive, twin_labels
from latbench.records.noise_floor import MINIMUM_PAIRS, NoiseFloor, noise_floor
from latbench.records.profile import Profile
from latbench.space import HasGraph


@dataclass(frozen=True, slots=True, eq=False)
class Learnable:
    """Architectures of a profile, in the order of measuring.

    Args:
        X: encodings ``(n, columns)``.
        y: measured values ``(n,)``.
        groups: canonical texts ``(n,)``.
        floor: the error that a perfect predictor would show on these labels.
        dead: how many architectures without a live path are left out.
        notes: what a reader should know of these rows.
    """

    X: NDArray[np.floating]
    y: NDArray[np.float64]
    groups: list[str]
    floor: NoiseFloor
    dead: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, profile: Profile, *, keep_dead: bool = False) -> Learnable:
        """Return the architectures of a profile.

        A network without a live path from its input to its output is a constant. Compilers drop all of it, so that it
        takes next to nothing, and a relative error of it says nothing about networks that compute.

        Where a table holds labels that were copied from one architecture onto others that compute the same, each
        structure is learnt from and tested on once.

        Args:
            profile: the measurements.
            keep_dead: whether architectures without a live path are among them.

        Raises:
            DataError: nothing has been measured, or only architectures without a live path.
        """
        X, y = profile.X, profile.y
        graphs = tuple(profile.space.graphs()) if isinstance(profile.space, HasGraph) else ()
        alive = are_alive(graphs, profile.space.columns, X)
        kept = np.arange(len(y)) if keep_dead else np.flatnonzero(alive)
        dead = len(y) - len(kept)
        if not len(kept):
            raise DataError(
                f"none of the {len(y)} architectures of this profile has a live path: measure others, or learn from "
                "these all the same (keep_dead, --keep-dead)"
            )
        notes = [f"{dead} architectures without a live path are left out (--keep-dead takes them)"] if dead else []
        if len(kept) > 1 and not np.ptp(y[kept]):
            notes.append(f"all {len(kept)} architectures have the same label: there is nothing to learn from them")
        floor = noise_floor(profile.duplicates)
        labels = twin_labels(graphs, profile.space.columns, X[kept])
        if floor.mape is None and labels is not None:
            twins = _pairs(labels.tolist(), y[kept])
            if len(twins) >= MINIMUM_PAIRS:
                floor = noise_floor(twins, of="pairs of architectures that differ only in how nodes are numbered")
        groups = [profile.groups[row] for row in kept]
        if note := _copied(groups, y[kept]):
            notes.append(note)
            first = np.sort(np.unique(groups, return_index=True)[1])
            kept, groups = kept[first], [groups[row] for row in first]
        return cls(X[kept], y[kept], groups, floor, dead, tuple(notes))


def _copied(groups: Sequence[str], y: NDArray[np.float64]) -> str:
    """Return a note where labels of architectures that compute the same are copies of each other; else nothing."""
    pairs = _pairs(groups, y)
    equal, structures = int((pairs[:, 0] == pairs[:, 1]).sum()), len(set(groups))
    # Labels that are rounded coarsely are equal, too, but then few values are there.
    if len(pairs) < MINIMUM_PAIRS or 2 * equal < len(pairs) or 2 * len(set(y)) < structures:
        return ""
    return (
        f"labels were copied: {equal} of {len(pairs)} pairs of architectures that compute the same have the same label "
        f"to the last digit, so each of {structures} structures counts once"
    )


def _pairs(labels: Sequence[Hashable], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of rows that share a label, each with the next one of that label ``(pairs, 2)``."""
    rows: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    found = [(y[one], y[other]) for same in rows.values() for one, other in pairwise(same)]
    return np.array(found, dtype=np.float64).reshape(-1, 2)

"""What a profile measures, in order: architectures that are not isomorphic, and some of them again."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from latbench.records.subjects import Subject, operations
from latbench.space import Architecture, HasEnumerate, SearchSpace

DUPLICATES = 0.03
MIN_DUPLICATES = 16
"""Share of architectures that are measured again, and how many at least: the noise floor needs pairs."""

STRETCH = 400
"""Architectures that are measured before the blind duplicates among them, so that a long profile knows its floor."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Subjects that are measured first, and those among them that are measured again, in other processes."""

    first: list[Subject]
    again: list[Subject]


def plan(space: SearchSpace, samples: int, seed: int, *, with_operations: bool = False) -> list[Stretch]:
    """Return what a profile measures, in order; more samples with one seed extend the plan."""
    architectures = [str(a) for a in distinct(space, samples, seed)]
    draws = {text: zlib.crc32(f"{seed} {text}".encode()) for text in architectures}
    stretches = []
    for start in range(0, max(1, len(architectures)), STRETCH):
        texts = architectures[start : start + STRETCH]
        lowest = sorted(texts, key=draws.__getitem__)
        drawn = sum(draws[text] < DUPLICATES * 2**32 for text in texts)
        again = lowest[: max(drawn, MIN_DUPLICATES if start == 0 else 0)]
        first = [Subject("operation", key) for key in (operations(space) if with_operations and start == 0 else ())]
        first += [Subject("architecture", text) for text in texts]
        stretches.append(Stretch(first, [Subject("architecture", text, replicate=1) for text in again]))
    return stretches


def distinct(space: SearchSpace, samples: int, seed: int) -> list[Architecture]:
    """Draw architectures until `samples` of them are not isomorphic, or the space has no more.

    Draws find the last architectures of a space late. Those of a space that can be listed come after as many draws as
    it has architectures, in an order that the seed decides; of others, hardly any is missed.
    """
    listed = list(space.enumerate()) if isinstance(space, HasEnumerate) else []
    found: dict[str, Architecture] = {}
    drawn, most = 0, len(listed) or 8 * samples + 1000
    while len(found) < samples and drawn < most:
        drawn = min(2 * drawn or samples, most)
        for architecture in space.sample(drawn, seed=seed):
            found.setdefault(space.canonical(architecture), architecture)
    if len(found) < samples:
        for architecture in sorted(listed, key=lambda a: zlib.crc32(f"{seed} {a}".encode())):
            found.setdefault(space.canonical(architecture), architecture)
    return list(found.values())[:samples]

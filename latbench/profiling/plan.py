"""What a profile measures, in order: architectures that are not isomorphic, and some of them again."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import islice

from latbench.records.subjects import Subject, operations
from latbench.space import Architecture, HasEnumerate, HasParts, SearchSpace

DUPLICATES = 0.03
MIN_DUPLICATES = 16
"""Share of architectures that are measured again, and how many at least: the noise floor needs pairs."""

STRETCH = 400
"""Architectures that are measured before the blind duplicates among them, so that a long profile knows its floor."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Subjects to measure first, and those among them to measure again in other processes."""

    first: list[Subject]
    again: list[Subject]


def plan(
    space: SearchSpace, samples: int, seed: int, *, with_operations: bool = False, with_parts: bool = False
) -> list[Stretch]:
    """Return what a profile measures, in order; more samples with one seed extend the plan.

    Args:
        space: the search space.
        samples: how many architectures.
        seed: draws them.
        with_operations: whether to plan every distinct operation of the space, before the architectures.
        with_parts: whether to plan the parts of every architecture, after the architectures of its stretch.
    """
    drawn = distinct(space, samples, seed)
    architectures = [str(a) for a in drawn]
    draws = {text: zlib.crc32(f"{seed} {text}".encode()) for text in architectures}
    stretches = []
    for start in range(0, max(1, len(architectures)), STRETCH):
        texts = architectures[start : start + STRETCH]
        lowest = sorted(texts, key=draws.__getitem__)
        repeated = sum(draws[text] < DUPLICATES * 2**32 for text in texts)
        again = lowest[: max(repeated, MIN_DUPLICATES if start == 0 else 0)]
        first = [Subject("operation", key) for key in (operations(space) if with_operations and start == 0 else ())]
        first += [Subject("architecture", text) for text in texts]
        if with_parts and isinstance(space, HasParts):
            stretch = drawn[start : start + STRETCH]
            first += [Subject("part", f"{whole}#{name}") for whole in stretch for name in space.parts(whole)]
        stretches.append(Stretch(first, [Subject("architecture", text, replicate=1) for text in again]))
    return stretches


def distinct(space: SearchSpace, samples: int, seed: int) -> list[Architecture]:
    """Draw architectures until `samples` of them are not isomorphic, or the space has no more.

    Draws find the last architectures of a space late. So after as many draws as the space has architectures, one that
    can be listed is listed, in an order that the seed decides; of any other space, draws miss hardly any.
    """
    if not isinstance(space, HasEnumerate):
        found, _ = _drawn(space, samples, seed, 8 * samples + 1000)
        return list(found.values())
    # It is listed only where draws do not suffice: 15,625 cells take longer than the few that are asked for.
    found, draws = _drawn(space, samples, seed, 2 * samples)
    if len(found) < samples or not _has(space, draws):
        listed = sorted(space.enumerate(), key=lambda a: zlib.crc32(f"{seed} {a}".encode()))
        found, _ = _drawn(space, samples, seed, len(listed))
        for architecture in listed if len(found) < samples else ():
            found.setdefault(space.canonical(architecture), architecture)
    return list(found.values())[:samples]


def _drawn(space: SearchSpace, samples: int, seed: int, most: int) -> tuple[dict[str, Architecture], int]:
    """Return the architectures that at most so many draws find, by canonical text, and how many draws were made."""
    found: dict[str, Architecture] = {}
    seen, drawn = 0, min(samples, most)
    while True:
        for architecture in space.sample(drawn, seed=seed)[seen:]:
            if len(found) == samples:
                return found, seen
            found.setdefault(space.canonical(architecture), architecture)
            seen += 1
        if len(found) == samples or drawn == most:
            return found, seen
        drawn = min(2 * drawn, most)


def _has(space: HasEnumerate, architectures: int) -> bool:
    """Whether a space has at least so many architectures."""
    return sum(1 for _ in islice(space.enumerate(), architectures)) == architectures

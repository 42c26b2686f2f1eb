"""The checks that every cell space makes, so that one mistake reads the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence

from latbench.errors import ParseError, UsageError, did_you_mean


def check_config(space: str, field: str, value: int, *, minimum: int = 1, multiple_of: int = 1) -> None:
    """Check one field of a space's configuration.

    Raises:
        UsageError: the value is not an integer, is too small, or not a multiple of `multiple_of`.
    """
    wanted = f"an integer of at least {minimum}" if multiple_of == 1 else f"a positive multiple of {multiple_of}"
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum or value % multiple_of:
        raise UsageError(f"space {space!r} cannot have {field}={value!r}: give {wanted}")


def check_operation(kind: str, known: Sequence[str]) -> None:
    """Check the name of an operation.

    Raises:
        ParseError: it is not among the known ones.
    """
    if kind not in known:
        raise ParseError(f"no operation {kind!r}: {did_you_mean(kind, known)}")

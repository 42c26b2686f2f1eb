"""Numbers as people write them into tables: decimal commas, separated thousands."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from latbench.errors import DataError

MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "none", "-", "<na>"})
"""What stands for no value, in lower case."""

_SPACES = "\u0020\u00a0\u2009\u202f"
_NUMBER = re.compile(rf"[+-]?(?P<digits>[0-9.,'\u2019_{_SPACES}]*[0-9][.,]?)(?:[eE][+-]?[0-9]+)?")
_OTHER = {".": ",", ",": "."}


def decimal_of(texts: Sequence[str], column: str) -> str:
    """Return what separates the decimals of a column's numbers, ``"."`` or ``","``.

    Raises:
        DataError: cells contradict one another, or ``1,234`` may be a thousand or one.
    """
    shown: dict[str, str] = {}
    for text in texts:
        shown.setdefault(_decimal(text), text)
    points, commas, either = shown.get("."), shown.get(","), shown.get("1,234")
    if points and commas:
        raise DataError(
            f"column {column!r} has decimal points ({points!r}) and decimal commas ({commas!r}): write one kind"
        )
    if points or commas:
        return "." if points else ","
    if "1.234" in shown and "1" in shown:
        # Whoever writes three decimals writes them in every cell; thousands are separated where there are some.
        either = either or shown["1.234"]
    if either:
        raise DataError(
            f"column {column!r} does not tell whether {either!r} is more than a thousand or has three decimals: "
            "give --decimal ',' or --decimal '.'"
        )
    return "."


def number(text: str, decimal: str) -> float:
    """Return a text as a number; NaN if it is not one, or if its thousands are not groups of three digits."""
    text = text.strip()
    match = _NUMBER.fullmatch(text)
    if not match:
        return math.nan if text.casefold().lstrip("+-") not in ("inf", "infinity") else math.inf
    whole, _, rest = match["digits"].partition(decimal)
    if rest and not rest.isdigit():
        return math.nan
    separators = {character for character in whole if not character.isdigit()}
    if separators:
        (separator, *more) = separators
        groups = whole.split(separator)
        if more or separator == decimal or not 1 <= len(groups[0]) <= 3 or any(len(g) != 3 for g in groups[1:]):
            return math.nan
    plain = "".join(filter(str.isdigit, whole))
    return float(text[: match.start("digits")] + (plain or "0") + "." + (rest or "0") + text[match.end("digits") :])


def _decimal(text: str) -> str:
    """Return the decimal separator that one cell proves, or else what it looks like: ``1,234``, ``1.234`` or ``1``."""
    match = _NUMBER.fullmatch(text.strip())
    if not match:
        return ""
    digits = match["digits"]
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        return "." if digits.rindex(".") > digits.rindex(",") else ","
    if not points and not commas:
        return "1" if digits.isdigit() else ""
    mark = "." if points else ","
    if points + commas > 1:
        return _OTHER[mark]
    whole, _, rest = digits.partition(mark)
    grouped = len(rest) == 3 and 1 <= len(whole) <= 3 and not whole.startswith("0")
    has_exponent = match.end("digits") < len(text.strip())  # before which nobody separates thousands
    return f"1{mark}234" if grouped and not has_exponent else mark

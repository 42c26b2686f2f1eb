"""The configuration of a space: the fields of a dataclass as plain values, and plain values read from texts."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

from latbench.errors import UsageError

Setting = str | int | float | bool

_YES_OR_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


def settings_of(space: object) -> dict[str, Setting]:
    """Return the configuration of a space: its fields.

    Raises:
        UsageError: it has attributes but is not a dataclass, or a field is not a text, an integer, a finite number or
            a boolean.
    """
    if not dataclasses.is_dataclass(space):
        if _attributes(space):
            raise UsageError(
                f"{type(space).__qualname__!r} is not a dataclass, so nothing says how to make it again: "
                "write @dataclass(frozen=True) above it, and its configuration as fields"
            )
        return {}
    settings = {field.name: getattr(space, field.name) for field in dataclasses.fields(space) if field.init}
    for name, value in settings.items():
        if type(value) not in (str, int, float, bool):
            raise UsageError(
                f"field {name!r} of {type(space).__qualname__!r} is a {type(value).__name__}: a space's configuration "
                "is of str, int, float and bool; write several values as one text, such as '16,32'"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"field {name!r} of {type(space).__qualname__!r} is {value}: give a finite number")
    return settings


def are_equal(space: object, other: object) -> bool:
    """Whether two spaces of one class were made alike, so that they build the same networks.

    Plain attributes that are not fields count too: a constructor may keep an argument that no field has.
    """
    names = [field.name for field in dataclasses.fields(space)] if dataclasses.is_dataclass(space) else []
    if type(space).__eq__ is object.__eq__:
        if any(getattr(space, name) != getattr(other, name) for name in names):
            return False
    elif space != other:
        return False
    one, two = ({k: v for k, v in _attributes(each).items() if k not in names} for each in (space, other))
    plain = {name for name in (*one, *two) if isinstance((one | two)[name], str | int | float)}
    return all(name in one and name in two and one[name] == two[name] for name in plain)


def _attributes(space: object) -> dict[str, Any]:
    """Return the attributes of an object, except cached ones."""
    state = object.__getstate__(space)
    values: dict[str, Any] = {}
    for part in state if isinstance(state, tuple) else (state,):  # a pair where there are slots
        values |= part or {}
    return {
        name: value
        for name, value in values.items()
        if not any(isinstance(vars(base).get(name), cached_property) for base in type(space).__mro__)
    }


def field_types(plugin: Any) -> dict[str, str]:
    """Return the names of the types that a dataclass's fields are annotated with; nothing for any other class."""
    fields = dataclasses.fields(plugin) if dataclasses.is_dataclass(plugin) else ()
    return {field.name: getattr(field.type, "__name__", str(field.type)) for field in fields}


def read_setting(name: str, text: str, kind: str | None) -> Setting:
    """Read a field's value as its annotated type; without one of the four types, as a number if it is one.

    Args:
        name: the field.
        text: its value.
        kind: ``"int"``, ``"float"``, ``"bool"`` or ``"str"``.

    Raises:
        UsageError: the text is not such a value.
    """
    if kind == "str":
        return text
    if kind == "bool":
        if text.lower() not in _YES_OR_NO:
            raise UsageError(f"{name}={text} is neither yes nor no: write {name}=yes or {name}=no")
        return _YES_OR_NO[text.lower()]
    if kind == "int":
        value = _number(text, int)
        if value is None:
            raise UsageError(f"{name}={text} is not an integer: write for example {name}=8")
        return value
    value = _number(text, float)
    if kind == "float" and value is None:
        raise UsageError(f"{name}={text} is not a number: write for example {name}=0.5")
    whole = None if kind == "float" else _number(text, int)
    return next(found for found in (whole, value, text) if found is not None)


def _number(text: str, kind: type[int] | type[float]) -> int | float | None:
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

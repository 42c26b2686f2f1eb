"""The options that several commands share, and how their texts are read."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import typer

from latbench import plugins
from latbench.errors import UsageError
from latbench.space import SearchSpace, SpaceSpec


def positive(value: float) -> float:
    """Return a positive number, refuse any other; the callback of an option."""
    if not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is not a positive number")
    return value


def completed(kind: plugins.Kind) -> Callable[[str], list[str]]:
    """Return what completes the start of a plug-in's name in a shell."""

    def names(incomplete: str) -> list[str]:
        return [name for name in plugins.names(kind) if name.startswith(incomplete)]

    return names


SpaceName = Annotated[
    str,
    typer.Option("--space", autocompletion=completed(plugins.SPACES), help="Search space; see 'latbench spaces'."),
]
SpaceOptions = Annotated[
    list[str] | None, typer.Option("--space-option", "-S", help="A space's configuration, such as cells=5; repeatable.")
]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        autocompletion=completed(plugins.BACKENDS),
        help="Backend name or module:Class; see 'latbench plugins'.",
    ),
]
BackendNames = Annotated[
    list[str],
    typer.Option(
        "--backend",
        autocompletion=completed(plugins.BACKENDS),
        help="Backend name or module:Class; comma-separated or repeatable.",
    ),
]
BackendOptions = Annotated[
    list[str] | None, typer.Option("--option", "-O", help="A backend's own option as key=value; repeatable.")
]
Precision = Annotated[str, typer.Option(help="Numeric precision of the compiled model, such as fp32 or fp16.")]
Threads = Annotated[int, typer.Option(help="Threads that one inference may use.")]
Batch = Annotated[int, typer.Option(min=1, help="Inputs of one inference.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random choice.")]
Quantity = Annotated[
    Literal["latency", "energy", "memory"] | None,
    typer.Option(help="What to read of a store that holds several; unless given, what it holds, or latency."),
]
KeepDead = Annotated[
    bool, typer.Option("--keep-dead", help="Learn from networks without a path from input to output, too.")
]
OldQuantity = Annotated[
    Literal["latency_ms", "energy_mj"] | None, typer.Option("--target", hidden=True, help="The old --quantity.")
]
Timeout = Annotated[
    float,
    typer.Option(callback=positive, help="Seconds that one model may take to compile before it counts as failed."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def space_from(name: str, options: list[str] | None) -> SearchSpace:
    """Build the space that ``--space`` and ``--space-option`` name."""
    return SpaceSpec.read(name, pairs(options, "--space-option")).create()


def quantity_of(quantity: str | None, old: str | None) -> str | None:
    """Return the quantity of ``--quantity``, or of ``--target``, its old spelling."""
    named = old and old.partition("_")[0]
    if quantity and named and quantity != named:
        raise UsageError(f"--quantity {quantity} and --target {old} differ: leave --target out")
    return quantity or named


def pairs(options: list[str] | None, flag: str) -> dict[str, str]:
    """Read repeated ``key=value`` texts."""
    result = {}
    for text in options or []:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(f"{flag} {text!r} is not key=value: write {flag} {key or 'KEY'}={value or 'VALUE'}")
        result[key] = value
    return result


def names(texts: Sequence[str], flag: str) -> list[str]:
    """Read what is repeated, comma-separated or both: each once."""
    found = list(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))
    if texts and not found:
        raise UsageError(f"{flag} {','.join(texts)!r} names nothing: write for example {flag} A,B")
    return found


def numbers(texts: Sequence[str], flag: str) -> list[int]:
    """Read positive numbers that are repeated, comma-separated or both: each once."""
    found = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if not found or not all(name.isdecimal() and int(name) > 0 for name in found):
        raise UsageError(f"{flag} {','.join(texts)!r} is not a list of positive numbers: write for example {flag} 1,2")
    return list(dict.fromkeys(map(int, found)))


def literals(options: list[str] | None, flag: str) -> dict[str, Any]:
    """Read repeated ``key=value`` texts whose values may be Python literals."""
    return {key: _literal(value) for key, value in pairs(options, flag).items()}


def seconds(text: str | None) -> float | None:
    """Read a duration such as ``90s``, ``30m``, ``2h`` or ``1h30m``; a bare number is seconds."""
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not match or not any(match.groups()):
        raise UsageError(f"{text!r} is not a duration: write for example 90s, 30m, 2h or 1h30m")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # what literal_eval documents
        return text

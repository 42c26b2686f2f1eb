"""Entry points -> plug-ins. The only place that loads them.

A plug-in is named by its entry point, or as ``module:Class`` when it is not installed.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from latbench.errors import LatbenchError, PluginError, UsageError, did_you_mean, reason


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plug-in: its word in messages, its entry-point group, and methods that tell it from other kinds."""

    word: str
    group: str
    methods: tuple[str, ...] = ()


BACKENDS = Kind("backend", "latbench.backends", ("device", "compile"))
METERS = Kind("meter", "latbench.meters", ("counter",))
PREDICTORS = Kind("predictor", "latbench.predictors")
SPACES = Kind("space", "latbench.spaces", ("sample", "encode", "build"))
KINDS = (BACKENDS, PREDICTORS, SPACES, METERS)
"""In the order in which they are listed."""


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """Whether a plug-in can be used here; `reason` says why not, and how to get it."""

    name: str
    package: str
    available: bool
    reason: str = ""


def names(kind: Kind) -> list[str]:
    """Return the registered names, sorted."""
    return sorted(_registered(kind))


def load(kind: Kind, name: str) -> Any:
    """Return the class (or factory) of a plug-in.

    Raises:
        PluginError: the name is unknown or registered twice, or a library is missing.
    """
    if ":" in name:
        return _import(kind, EntryPoint(name, name, kind.group))
    found = _registered(kind).get(name)
    if found is None:
        remedy = did_you_mean(name, names(kind))
        also = "" if remedy.endswith("?") else ", or name a class as 'module:Class'"
        raise PluginError(f"no {kind.word} named {name!r}: {remedy}{also}")
    packages = sorted({_package(point) for point in found})
    if len(found) > 1:
        raise PluginError(
            f"{kind.word} {name!r} is registered by {' and '.join(packages)}: "
            "uninstall one, or name the class as 'module:Class'"
        )
    return _import(kind, found[0])


def configure(kind: Kind, name: str, config: Mapping[str, Any]) -> Any:
    """Build a plug-in with keywords.

    Raises:
        PluginError: see `load`, the device is missing, or the plug-in raises anything.
        UsageError: a keyword that the plug-in does not take.
    """
    plugin = load(kind, name)
    _check_keywords(f"{kind.word} {name!r}", plugin, config)
    try:
        built = plugin(**config)
    except LatbenchError:
        raise
    except Exception as error:
        raise PluginError(f"{kind.word} {name!r} cannot be used ({reason(error)}): see 'latbench plugins'") from error
    missing = [method for method in kind.methods if not hasattr(built, method)]
    if missing:
        raise PluginError(f"{name!r} is not a {kind.word}, it has no {missing[0]}(): name one as 'module:Class'")
    return built


def status(kind: Kind, name: str) -> PluginStatus:
    """Try a plug-in: build it with its defaults. Whatever goes wrong is the reason why it is not available."""
    package = " and ".join(sorted({_package(point) for point in _registered(kind).get(name, [])}))
    try:
        load(kind, name)()
    except Exception as error:  # noqa: BLE001 - native libraries raise anything
        return PluginStatus(name, package, available=False, reason=reason(error))
    return PluginStatus(name, package, available=True)


def _check_keywords(what: str, plugin: Any, config: Mapping[str, Any]) -> None:
    if not callable(plugin):
        raise UsageError(f"{what} is a {type(plugin).__name__}, not a class: name a class as 'module:Class'")
    try:
        parameters = inspect.signature(plugin).parameters.values()
    except ValueError:  # built in, without a signature: building it will tell
        return
    known = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind == p.VAR_KEYWORD for p in parameters):
        return
    for key in config:
        if key not in known:
            raise UsageError(f"{what} has no keyword {key!r}: {did_you_mean(key, known)}")


@cache
def _registered(kind: Kind) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=kind.group):
        same = found.setdefault(point.name, [])
        # An editable install beside a wheel lists one entry point twice; only two packages are a conflict.
        if all(_package(other) != _package(point) for other in same):
            same.append(point)
    return found


def _import(kind: Kind, point: EntryPoint) -> Any:
    module_name, _, attribute = point.value.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name == module_name:
            raise PluginError(
                f"{kind.word} {point.name!r} is in a module that does not exist: {module_name!r}"
            ) from error
        raise PluginError(
            f"{kind.word} {point.name!r} needs {error.name!r}: {_install_command(point, error.name or '')}"
        ) from error
    except Exception as error:  # for example, a shared library that is missing or too old
        raise PluginError(
            f"{kind.word} {point.name!r} does not load ({reason(error)}): "
            f"install {_package(point)} and what it needs again"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise PluginError(
            f"module {module_name!r} has no {attribute!r}: name a {kind.word} as 'module:Class'"
        ) from error


def _install_command(point: EntryPoint, library: str) -> str:
    if point.dist is not None and point.name in (point.dist.metadata.get_all("Provides-Extra") or []):
        return f"pip install '{point.dist.name}[{point.name}]'"
    return f"pip install {library}"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value.partition(":")[0]

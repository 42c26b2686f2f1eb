"""Entry points -> plug-ins. The only place that loads them.

A plug-in is named by its entry point, or as ``module:Class`` when it is not installed.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
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
PREDICTORS = Kind("predictor", "latbench.predictors", ("fit", "predict", "get_params", "set_params"))
SPACES = Kind("space", "latbench.spaces", ("sample", "encode", "build"))
STRATEGIES = Kind("strategy", "latbench.strategies", ("search",))
TASKS = Kind("task", "latbench.tasks", ("batches", "loss", "score"))
KINDS = (BACKENDS, PREDICTORS, SPACES, STRATEGIES, TASKS, METERS)
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
        UsageError: a class or an object in place of a name.
    """
    if not isinstance(name, str):
        given = name if inspect.isclass(name) else type(name)
        raise UsageError(f"a {kind.word} is named by a text: give '{given.__module__}:{given.__qualname__}'")
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
    _check_class(kind, name, plugin)
    _check_keywords(f"{kind.word} {name!r}", plugin, config)
    try:
        built = plugin(**config)
    except LatbenchError:
        raise
    except Exception as error:
        raise PluginError(f"{kind.word} {name!r} cannot be used ({reason(error)}): see 'latbench plugins'") from error
    _check_methods(kind, name, built)
    return built


def spelling(kind: Kind, plugin: type) -> str:
    """Return what loads exactly this class again, here and in the processes that measure.

    That is the name under which it is registered, or else ``module:Class``. A class of the running script is spelled by
    the script's file, which other processes import, as those of `multiprocessing` do.

    Raises:
        UsageError: no other process could load it: a class of a notebook or of a function, or one whose module is being
            imported because this was asked for.
    """
    for name, points in _registered(kind).items():
        if len(points) == 1 and _found(points[0]) is plugin:
            return name
    what = f"{kind.word} {plugin.__qualname__!r}"
    if "<locals>" in plugin.__qualname__:
        raise UsageError(f"{what} is made inside a function, where no other process finds it: move it to its module")
    module = _main_module(what) if plugin.__module__ == "__main__" else plugin.__module__
    if module in _loading:
        raise UsageError(
            f"module {module!r} measures while it is imported: put what it runs under 'if __name__ == \"__main__\":'"
        )
    name = f"{module}:{plugin.__qualname__}"
    if load(kind, name) is not plugin:
        raise UsageError(f"{name!r} is another class than the given one: import the class under that name again")
    return name


def status(kind: Kind, name: str) -> PluginStatus:
    """Try a plug-in: build it with its defaults. Whatever goes wrong is the reason why it is not available."""
    package = " and ".join(sorted({_package(point) for point in _registered(kind).get(name, [])}))
    try:
        load(kind, name)()
    except Exception as error:  # noqa: BLE001 - native libraries raise anything
        return PluginStatus(name, package, available=False, reason=reason(error))
    return PluginStatus(name, package, available=True)


def _check_class(kind: Kind, name: str, plugin: Any) -> None:
    """Refuse what is not a plug-in of this kind before it is called: the name may come from a file."""
    if inspect.isclass(plugin):
        _check_methods(kind, name, plugin)
    elif ":" in name:
        raise UsageError(
            f"{kind.word} {name!r} is a {type(plugin).__name__}, not a class: name a class as 'module:Class'"
        )


def _check_methods(kind: Kind, name: str, plugin: Any) -> None:
    missing = [method for method in kind.methods if not hasattr(plugin, method)]
    if missing:
        raise PluginError(f"{name!r} is not a {kind.word}, it has no {missing[0]}(): name one as 'module:Class'")


def _check_keywords(what: str, plugin: Any, config: Mapping[str, Any]) -> None:
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


@functools.cache
def _registered(kind: Kind) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=kind.group):
        same = found.setdefault(point.name, [])
        # An editable install beside a wheel lists one entry point twice; only two packages are a conflict.
        if all(_package(other) != _package(point) for other in same):
            same.append(point)
    return found


_loading: set[str] = set()
"""Modules that are being imported because a plug-in in them was asked for."""


@contextmanager
def _marked(module: str) -> Iterator[None]:
    first = module not in _loading
    _loading.add(module)
    try:
        yield
    finally:
        if first:
            _loading.remove(module)


def _found(point: EntryPoint) -> Any:
    """Return what an entry point names, if its module has been imported; its classes are nowhere else."""
    module = sys.modules.get(point.module)
    return functools.reduce(lambda found, part: getattr(found, part, None), point.attr.split("."), module)


def _main_module(what: str) -> str:
    """Return the name under which other processes import the running script."""
    name, file = _main()
    if file is None:
        raise UsageError(
            f"{what} is made in a notebook or a prompt, where no other process finds it: "
            "write it to a file such as my_plugin.py, and import it from there"
        )
    spec = find_spec(name) if all(part.isidentifier() for part in name.split(".")) else None
    if spec is None or spec.origin is None or not Path(spec.origin).samefile(file):
        raise UsageError(f"{what} is in {file}, which 'import {name}' does not find: move it to a module that imports")
    return name


def _main() -> tuple[str, Path | None]:
    """Return the running script's name as a module, and its file; None where there is no file."""
    main = sys.modules["__main__"]
    file = Path(getattr(main, "__file__", None) or "")
    spec = getattr(main, "__spec__", None)  # of python -m
    return spec.name if spec is not None else file.stem, file if file.is_file() else None


def _import(kind: Kind, point: EntryPoint) -> Any:
    module_name, _, attribute = point.value.partition(":")
    try:
        with _marked(module_name):
            # A script that runs is not run again: its classes would not be those of the objects that it made.
            is_main = module_name not in sys.modules and module_name != "" and module_name == _main()[0]
            module = importlib.import_module("__main__" if is_main else module_name)
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
        return functools.reduce(getattr, attribute.split("."), module)
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

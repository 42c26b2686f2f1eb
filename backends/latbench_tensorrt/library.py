"""Which of the two libraries is used, and what it logs."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from typing import Any

from latbench.errors import PluginError

MODULES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
"""The modules by the value of the option ``runtime``; the first one that is installed is the default."""
_TITLES = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}
_PLACE = re.compile(r" (?:at|In) /\S+:\d+")

INSTALLED = tuple(runtime for runtime, module in MODULES.items() if find_spec(module))
if not INSTALLED:
    raise ModuleNotFoundError("neither tensorrt nor tensorrt_rtx is installed", name="tensorrt")


@dataclass(frozen=True, slots=True)
class Library:
    """One of the two libraries.

    Args:
        runtime: its value of the option ``runtime``.
        trt: the module.
        log: its logger. A process has one, since the library keeps the first one it is given.
    """

    runtime: str
    trt: Any
    log: Any

    @property
    def is_rtx(self) -> bool:
        """Whether kernels are chosen and compiled on the GPU that runs them (TensorRT-RTX), not while building."""
        return self.runtime == "rtx"

    def __str__(self) -> str:
        return f"{_TITLES[self.runtime]} {self.trt.__version__}"


@cache
def load_library(runtime: str) -> Library:
    """Import a library, named as in the option ``runtime``.

    Raises:
        PluginError: it is not installed, or does not load.
    """
    if runtime not in INSTALLED:
        raise PluginError(
            f"option runtime={runtime} of backend 'tensorrt' needs {MODULES[runtime]!r}: "
            f"pip install 'latbench[{MODULES[runtime].replace('_', '-')}]'"
        )
    try:
        trt = importlib.import_module(MODULES[runtime])
    except (ImportError, OSError) as error:  # a shared library that is missing or too old
        raise PluginError(f"{MODULES[runtime]!r} does not load ({error}): install it again") from error
    return Library(runtime, trt, _logger(trt))


@cache
def versions() -> dict[str, str]:
    """Return the versions of the installed libraries without loading them."""
    packages = packages_distributions()
    return {
        MODULES[runtime]: version(packages[MODULES[runtime]][0])
        for runtime in INSTALLED
        if MODULES[runtime] in packages
    }


def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps the errors, and the list of layers that the builder logs after building an engine."""

        def __init__(self) -> None:
            super().__init__()
            self.clear()

        def clear(self) -> None:
            """Forget everything, before the next request."""
            self.errors: list[str] = []
            self.layers = ""

        def words(self) -> str:
            """Return the errors in the library's own words, without its source files."""
            errors = dict.fromkeys(_PLACE.sub("", error).strip() for error in self.errors)
            return "; ".join(errors) or "no reason given"

        def log(self, severity: Any, message: str) -> None:
            """Receive what the library logs."""
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            elif "LayerType: " in message:
                self.layers = message

    return Log()

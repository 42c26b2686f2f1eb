"""What worker processes build a backend from: a name, or an object that they can build in the same way."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from latbench import plugins
from latbench.backend import Backend
from latbench.errors import UsageError


def backend_name(backend: str | Backend) -> str:
    """Return what loads the class of a backend; a name stays as it is.

    Raises:
        UsageError: a class in place of a backend, a backend that is not what its class gives without arguments, or one
            whose class no other process can load.
    """
    if isinstance(backend, str):
        return backend
    if isinstance(backend, type):
        raise UsageError(f"{backend.__name__} is a class: give an instance, {backend.__name__}()")
    plugin = type(backend)
    name = plugins.spelling(plugins.BACKENDS, plugin)
    known: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(backend) if dataclasses.is_dataclass(backend) else ()
    fields = {field.name: field for field in known}
    # Nothing tells what any other constructor made of its arguments.
    changed = [name for name in inspect.signature(plugin).parameters if _differs(backend, fields.get(name))]
    if changed:
        raise UsageError(
            f"backend {name!r} was made with {', '.join(changed)}, and the processes that measure build it without: "
            "read such settings from --option key=value, or make a subclass that has them"
        )
    return name


def _differs(backend: Backend, field: dataclasses.Field[Any] | None) -> bool:
    """Whether a field may differ from its default."""
    if field is None:
        return True
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return default is dataclasses.MISSING or bool(getattr(backend, field.name) != default)

"""The contract of a meter: it reads an energy counter; the core owns the windows and the statistics."""

from __future__ import annotations

from typing import ClassVar, Protocol


class Meter(Protocol):
    """An energy counter. The constructor takes no arguments and raises `PluginError` where there is no counter."""

    name: ClassVar[str]
    """Equals the entry-point name."""

    def energy_mj(self) -> float:
        """Return the millijoules counted since an arbitrary start; never decreasing."""
        ...

"""The contract of a meter: it finds a device's energy counter and reads it; the core owns windows and statistics.

A meter is one class::

    class WallSocketMeter:
        name = "wall-socket"

        def counter(self, device: Device) -> Counter:
            if device.kind != "cpu":
                raise NoCounterError(f"a wall socket cannot tell {device.name} from the machine: use another --meter")
            return Socket("/dev/ttyUSB0")

The constructor takes no arguments and raises `PluginError` where the library or the driver is missing.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from latbench.backend import Device


@runtime_checkable
class Counter(Protocol):
    """The energy that one device has taken since some moment."""

    def energy_mj(self) -> float:
        """Return the millijoules counted since an arbitrary start; never less than before.

        A counter whose register wraps around adds its range. Values may stand still between updates of the register.

        Raises:
            CounterError: the counter cannot be read any more.
        """
        ...


class Meter(Protocol):
    """Finds energy counters. See the module's docstring."""

    name: ClassVar[str]
    """Equals the entry-point name."""

    def counter(self, device: Device) -> Counter:
        """Return the counter of a device, which `latbench.backend.Backend.device` describes.

        Raises:
            NoCounterError: the device has none that can be read; the message says why and what to use instead.
        """
        ...

"""Which places a machine has for a backend, asked in a worker process: the coordinator never touches a device."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from latbench import plugins
from latbench.backend import Backend, CompileOptions, Device, HasUnits, device_of
from latbench.devices.host import check_threads, divided_cores
from latbench.errors import LatbenchError, PluginError, reason
from latbench.executor import Notify, Place
from latbench.measure import quantities
from latbench.measure.quantity import Quantity
from latbench.measure.settings import Settings

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class PlacesRequest:
    """Asks for the places of a backend, and whether some quantities can be measured there.

    Args:
        backend: plug-in name or ``module:Class``.
        options: how models are compiled; they may choose the device.
        settings: how sessions measure.
        quantities: what they measure.
    """

    backend: str
    options: CompileOptions
    settings: Settings
    quantities: tuple[Quantity, ...]

    @property
    def threads(self) -> int:
        """The threads of one inference."""
        return self.options.threads

    @property
    def max_seconds(self) -> float:
        """Nothing is measured."""
        return 0.0

    def to_json(self) -> str:
        """Write the request as one line of JSON."""
        return json.dumps(
            {
                "backend": self.backend,
                "options": dataclasses.asdict(self.options),
                "settings": dataclasses.asdict(self.settings),
                "quantities": [quantities.to_json(quantity) for quantity in self.quantities],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> PlacesRequest:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        wanted = tuple(map(quantities.from_json, values["quantities"]))
        return cls(values["backend"], CompileOptions(**values["options"]), Settings(**values["settings"]), wanted)

    def run(self, notify: Notify) -> Places:
        """Build the backend in this process and ask it.

        Raises:
            UsageError: more threads than the machine gives, a backend that is not available or fails, or a quantity
                that cannot be measured.
        """
        check_threads(self.threads)
        backend: Backend = plugins.configure(plugins.BACKENDS, self.backend, {})
        device = self._told(partial(device_of, backend, self.options))
        for quantity in self.quantities:
            quantity.check(device, self.settings)
        units = self._told(backend.units) if isinstance(backend, HasUnits) else ()
        # One session is timed while the next one compiles, where there is a core to spare and no accelerator to share.
        ahead = device.kind == "cpu" and bool(divided_cores(self.threads)[0])
        several = units if len(units) > 1 else [(device.unit, {})]
        # The device of each unit is known once its variables are set: see `latbench.measure.workers.local`.
        return Places([Place(unit or device.name, device, environment, ahead) for unit, environment in several])

    def read_result(self, values: Sequence[Mapping[str, Any]]) -> list[Place]:
        """Read what `Places.to_json` wrote."""
        return [Place(**{**place, "device": Device(**place["device"])}) for place in values]

    def _told(self, ask: Callable[[], Answer]) -> Answer:
        """Return what the backend answers; a stranger's backend may raise anything."""
        try:
            return ask()
        except LatbenchError:
            raise
        except Exception as error:
            raise PluginError(
                f"backend {self.backend!r} fails ({reason(error)}): correct it, or choose another"
            ) from error


class Places(list[Place]):
    """The places of a machine."""

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain values for JSON."""
        return [dataclasses.asdict(place) for place in self]

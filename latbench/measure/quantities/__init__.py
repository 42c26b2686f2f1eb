"""The quantities: latency, energy and memory, a file each, and how one is written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from latbench.errors import UsageError
from latbench.measure.energy.windows import EnergySettings
from latbench.measure.quantities.energy import EnergyQuantity
from latbench.measure.quantities.latency import LatencyQuantity
from latbench.measure.quantities.memory import MemoryQuantity
from latbench.measure.quantity import Quantity
from latbench.records.measurement import Conditions

QUANTITIES: Mapping[str, type[Any]] = {
    quantity.name: quantity for quantity in (LatencyQuantity, EnergyQuantity, MemoryQuantity)
}
"""The quantities by name, in the order in which a profile measures them."""


def to_json(quantity: Quantity) -> dict[str, Any]:
    """Return plain values for JSON."""
    values: dict[str, Any] = dataclasses.asdict(quantity)  # type: ignore[call-overload]
    return {"name": quantity.name, **values}


def from_json(values: Mapping[str, Any]) -> Quantity:
    """Read what `to_json` wrote."""
    fields = dict(values)
    quantity: Quantity = QUANTITIES[fields.pop("name")].from_json(fields)
    return quantity


def quantity_like(conditions: Conditions) -> Quantity:
    """Return the quantity that gives measurements which can be compared with those of `conditions`.

    Raises:
        UsageError: that quantity cannot be measured.
    """
    if conditions.quantity not in QUANTITIES:
        raise UsageError(f"{conditions.quantity} cannot be measured: choose one of {', '.join(QUANTITIES)}")
    if conditions.quantity == EnergyQuantity.name:
        return EnergyQuantity(EnergySettings(meter=conditions.clock))
    quantity: Quantity = QUANTITIES[conditions.quantity]()
    return quantity

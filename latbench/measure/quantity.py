"""The contract of a quantity: what a session measures of its compiled workloads, and how its sessions are put together.

`latbench.measure.session` compiles, checks and warms up in the same way for each of them. Implementations are frozen
dataclasses of plain values: they travel to a worker process as JSON (`latbench.measure.quantities`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from latbench.backend import Compiled, Device
from latbench.measure.settings import Settings
from latbench.measure.workloads import CompiledWorkload
from latbench.records.measurement import Conditions, Measurement

if TYPE_CHECKING:
    from latbench.measure.session import Session


class Quantity(Protocol):
    """What is measured. See the module's docstring."""

    name: ClassVar[str]
    """``"latency"``, ``"energy"``, ``"memory"``: what ``--quantity`` takes."""
    unit: ClassVar[str]
    """``"ms"``, ``"mJ"``, ``"MiB"``."""
    with_references: ClassVar[bool]
    """Whether the space's references are measured in every session, so that dividing by them removes drift."""
    compiles_ahead: ClassVar[bool]
    """Whether one session may compile while another one is measured."""

    def check(self, device: Device, settings: Settings) -> None:
        """Check that the quantity can be measured, before anything is.

        Raises:
            UsageError: it cannot be; the message says why, and what to use instead.
        """
        ...

    def session_size(self, device: Device) -> int:
        """Return how many workloads share a session, references left out."""
        ...

    def max_seconds(self, settings: Settings, workloads: int) -> float:
        """Return the longest that `measure` may take."""
        ...

    def measure(self, workloads: Sequence[CompiledWorkload], session: Session) -> Sequence[Measurement]:
        """Measure workloads that are compiled and warm; what fails is recorded by the session and left out.

        Raises:
            UsageError: the backend or its device cannot tell the quantity.
            CounterError: what counts the quantity fails, so that no workload is to blame.
        """
        ...

    def conditions(self, shared: Conditions, compiled: Compiled) -> Conditions:
        """Return the conditions of the measurements, from those that a latency would have."""
        ...

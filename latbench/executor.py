"""The contract of an executor: it finds places where a backend's devices are, and runs measuring sessions there.

`latbench.measure.workers.local` is the one that works in processes of this machine, `latbench.measure.workers.ssh` in
those of another one. Whichever it is, it takes a request to where its device is, as one line of JSON, and brings the
result back; `latbench.testing.ExecutorSuite` is its contract as tests::

    class OverThere:
        def places(self, request):
            return [replace(place, name=f"{host}/{place.name}") for host in HOSTS for place in self._ask(host, request)]

        def start(self, request, place):
            return self._threads.submit(self._ask, place.name.partition("/")[0], request)

        def renew(self): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from latbench.backend import Device
from latbench.errors import WorkerDiedError

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

Notify = Callable[[str, int], None]
"""Called with a phase: ``"compiling"``, ``"verifying"`` and ``"warming"`` with the index of a workload, ``"compiled"``
and ``"timing"`` with -1, and ``"running"`` where timing takes long. It may take its time at ``"compiled"``; what it
hears last tells which workload a crash belongs to."""


class Request(Protocol[Result_co]):
    """What can be asked for where a device is: a class of a module, with a classmethod ``from_json(text)``."""

    @property
    def threads(self) -> int:
        """The threads that run at once."""
        ...

    @property
    def max_seconds(self) -> float:
        """The longest that measuring may take once everything has compiled."""
        ...

    def to_json(self) -> str:
        """Write the request as one line of JSON."""
        ...

    def run(self, notify: Notify) -> Any:
        """Run the request in this process; the result has a ``to_json()`` of plain values."""
        ...

    def read_result(self, values: Any) -> Result_co:
        """Read the result that was written where it ran."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where the sessions of one device run.

    Args:
        name: unique among the places of an executor.
        device: what is measured there.
        environment: variables that a process needs to measure that device.
        compiles_ahead: whether one session may compile there while another one is measured.
    """

    name: str
    device: Device
    environment: Mapping[str, str] = field(default_factory=dict)
    compiles_ahead: bool = False


class Executor(Protocol):
    """Starts what is measured. See the module's docstring."""

    def places(self, request: Request[Sequence[Place]]) -> Sequence[Place]:
        """Return the places for a backend; `request` describes those of the machine that it runs on.

        Raises:
            UsageError: the backend is not available there, or cannot measure what is asked for.
            WorkerDiedError: the backend crashed.
        """
        ...

    def start(self, request: Request[Result], place: Place) -> Future[Result]:
        """Start a session, and return at once.

        It has a process of its own. One session at a time is measured at a place: the next one waits at ``"compiled"``
        until the one before has ended.

        The future raises:
            SessionDiedError: the process of the session died.
            PlaceLostError: the place cannot be reached any more.
            LatbenchError: what the request raised.
        """
        ...

    def renew(self) -> None:
        """Make sessions that start from now on share nothing with earlier ones: no process, no memory layout.

        Called while no session runs.
        """
        ...


class SessionDiedError(WorkerDiedError):
    """A session's process died. `index` is the workload that it was compiling, None once it measured all of them."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class PlaceLostError(WorkerDiedError):
    """A place cannot be reached any more: its sessions run elsewhere."""

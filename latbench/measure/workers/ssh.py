"""The executor of another machine: sessions in worker processes there, reached over ssh."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Self

from latbench.errors import LatbenchError, UsageError
from latbench.executor import Place, PlaceLostError, Request, Result, SessionDiedError
from latbench.measure.workers.connection import END_S, Connection, ConnectionLostError
from latbench.measure.workers.wire import Relayed, place_from, raised

DELAYS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Seconds before each attempt to reach a machine again: two minutes in all, in which a board starts anew."""

MOST_LOSSES = 3
"""How often a session may lose its connection before it counts as the cause."""

_log = logging.getLogger(__name__)


@dataclass
class _Call:
    """What has been asked and is not answered yet."""

    values: dict[str, Any]
    read: Callable[[Any], Any]
    future: Future[Any]
    losses: int = 0


class SshExecutor:
    """Runs sessions on another machine. See `latbench.executor.Executor`. A context manager.

    It needs the same version of latbench there, and a login without a question: whatever else ssh is to do, such as
    ports, keys and jump hosts, stands in the user's own configuration of ssh.

    A connection that is lost is made again; what was in flight is measured again. A session that loses it
    `MOST_LOSSES` times has died.

    Args:
        host: ``user@board``, or a name of the user's ssh configuration.
        python: the Python there that has latbench.
        timeout: seconds that one model may take to compile, and that timing may exceed its own limit.
        delays_s: seconds before each attempt to reach the machine again; after the last one, its places are lost.
    """

    def __init__(
        self, host: str, *, python: str = "python3", timeout: float = 120.0, delays_s: Sequence[float] = DELAYS_S
    ) -> None:
        if not host.strip() or host.startswith("-") or any(map(str.isspace, host)):
            raise UsageError(f"{host!r} names no machine: give user@board, or a name of ~/.ssh/config")
        self._host, self._python, self._timeout, self._delays_s = host, python, timeout, tuple(delays_s)
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._numbers = count()
        self._calls: dict[int, _Call] = {}
        self._connection: Connection | None = None
        self._asked: dict[str, Any] | None = None
        self._places: list[Place] = []
        self._lost: PlaceLostError | None = None

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            UsageError: the machine cannot be reached, or has no latbench of this version.
        """
        self._connection = Connection(self._host, self._python, self._timeout)
        self._server = threading.Thread(target=self._serve, args=(self._connection,), daemon=True)
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.hang_up()
        self._server.join(END_S)  # it may be connecting again, and ends when it has
        self._lose(PlaceLostError(f"the connection to {self._host} is closed"))

    def places(self, request: Request[Sequence[Place]]) -> list[Place]:
        """Ask for the places there.

        Raises:
            PlaceLostError: the machine cannot be reached any more.
            LatbenchError: what the request raises.
        """
        values = {"call": "places", "request": dataclasses.asdict(Relayed.of(request))}
        found: list[Place] = self._call(values, _places_from).result()
        self._asked, self._places = values, found
        return list(found)

    def start(self, request: Request[Result], place: Place) -> Future[Result]:
        """Start a session there; see `latbench.measure.workers.local`."""
        relayed = dataclasses.asdict(Relayed.of(request))
        values = {"call": "start", "request": relayed, "place": dataclasses.asdict(place)}
        return self._call(values, request.read_result)

    def renew(self) -> None:
        """Fork the sessions that start from now on from a new process."""
        with self._lock:
            if self._connection is not None:  # another connection brings a new process anyway
                self._connection.send({"call": "renew"})

    def _call(self, values: dict[str, Any], read: Callable[[Any], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._lost is not None:
                raise self._lost
            number = next(self._numbers)
            self._calls[number] = _Call({**values, "id": number}, read, future)
            if self._connection is not None:
                self._connection.send(self._calls[number].values)
        return future

    def _serve(self, connection: Connection | None) -> None:
        """Take answers as they come, over one connection after the other."""
        while connection is not None:
            for answer in connection.answers():
                with self._lock:
                    call = self._calls.pop(answer["id"], None)
                if call is not None:
                    self._deliver(call, answer)
            with self._lock:
                self._connection = None
            connection = self._connect_again(connection.end() or "without a word")

    def _deliver(self, call: _Call, answer: dict[str, Any]) -> None:
        try:
            if "error" in answer:
                raise raised(answer, self._host)
            call.future.set_result(call.read(answer["result"]))
        except Exception as error:  # noqa: BLE001 - whoever waits for the result hears of it
            call.future.set_exception(error)

    def _connect_again(self, why: str) -> Connection | None:
        """Connect again, and ask again what was in flight; None where that is in vain, or the executor is left."""
        if self._ended.is_set():
            return None
        self._count_losses(why)
        for delay in self._delays_s:
            _log.warning("the connection to %s is lost (%s): trying again in %g s", self._host, why, delay)
            if self._ended.wait(delay):
                return None
            try:
                connection = Connection(self._host, self._python, self._timeout)
                self._check_places(connection)
            except PlaceLostError as error:
                self._lose(error)
                return None
            except (LatbenchError, ConnectionLostError) as error:
                why = str(error)
                continue
            with self._lock:
                if self._ended.is_set():
                    connection.end()
                    return None
                self._connection = connection
                for call in self._calls.values():
                    connection.send(call.values)
            return connection
        self._lose(
            PlaceLostError(
                f"{self._host} cannot be reached any more ({why}): "
                "once it answers, the same command continues what it has begun"
            )
        )
        return None

    def _count_losses(self, why: str) -> None:
        """End what loses every connection: it may be what takes the machine down."""
        with self._lock:
            for call in self._calls.values():
                call.losses += 1
            dead = [number for number, call in self._calls.items() if call.losses == MOST_LOSSES]
            calls = [self._calls.pop(number) for number in dead]
        for call in calls:
            words = f"the connection to {self._host} was lost {MOST_LOSSES} times while it ran: {why}"
            call.future.set_exception(SessionDiedError(words))

    def _check_places(self, connection: Connection) -> None:
        """Have the machine find its places again, as its sessions need.

        Raises:
            PlaceLostError: they are others than before.
            ConnectionLostError: the machine does not answer.
        """
        if self._asked is None:
            return
        try:
            answer = connection.ask(self._asked, 2 * self._timeout)
            if "error" in answer:
                raise raised(answer, self._host)
        except BaseException:
            connection.end()
            raise
        found = {place.name: place for place in _places_from(answer["result"])}
        for place in self._places:
            there = found.get(place.name)
            differs = ["everything"] if there is None else place.device.differences(there.device)
            if differs:
                connection.end()
                raise PlaceLostError(
                    f"{self._host} is another machine now, {', '.join(differs)} differ: profile it into a new store"
                )

    def _lose(self, error: PlaceLostError) -> None:
        with self._lock:
            self._lost = error
            calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.future.set_exception(error)


def _places_from(values: Sequence[dict[str, Any]]) -> list[Place]:
    return list(map(place_from, values))

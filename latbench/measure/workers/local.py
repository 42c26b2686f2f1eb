"""The executor of this machine: sessions in worker processes, one place for each device that a backend finds."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Self

from latbench.devices.host import usable_cores
from latbench.executor import Place, Request, Result
from latbench.measure.workers import RunningSession, Workers


class LocalExecutor:
    """Runs sessions in processes of this machine. See `latbench.executor.Executor`. A context manager.

    Equal devices share the machine's cores evenly, so that none disturbs what another one times; where there
    are more devices than cores for them, the first ones are used.

    Args:
        timeout: seconds that one model may take to compile, and that timing may exceed its own limit.
    """

    def __init__(self, timeout: float = 120.0) -> None:
        self._timeout = timeout
        self._turns: dict[str, threading.Lock] = {}
        self._cores: dict[str, Collection[int]] = {}

    def __enter__(self) -> Self:
        self._workers = Workers().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    def renew(self) -> None:
        """Fork the sessions that start from now on from a new process."""
        self._workers.__exit__(None, None, None)
        self._workers = Workers().__enter__()

    def places(self, request: Request[Sequence[Place]]) -> list[Place]:
        """Ask for the places in a worker; where there are several, ask for each again in its own environment.

        Raises:
            LatbenchError: what the request raises.
        """
        found = self._workers.run(request, timeout=self._timeout)
        if len(found) == 1:
            return list(found)
        places, cores = [], sorted(usable_cores())
        most = max(1, min(len(found), len(cores) // request.threads))
        for index, place in enumerate(found[:most]):
            share = cores[index * len(cores) // most : (index + 1) * len(cores) // most]
            self._cores[place.name] = share
            alone = self._workers.start(request, environment=place.environment, cores=share)
            (told,) = alone.result(timeout=self._timeout)
            places.append(replace(place, device=told.device, compiles_ahead=told.compiles_ahead))
        return places

    def start(self, request: Request[Result], place: Place) -> Future[Result]:
        """Start a session in a worker; a thread talks to it, and lets it be timed when its turn comes."""
        running = self._workers.start(request, environment=place.environment, cores=self._cores.get(place.name, ()))
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()
        turn = self._turns.setdefault(place.name, threading.Lock())
        # A daemon: the interpreter does not wait for it where Ctrl-C ends a run.
        threading.Thread(target=self._finish, args=(running, future, turn), daemon=True).start()
        return future

    def _finish(self, running: RunningSession[Result], future: Future[Result], turn: threading.Lock) -> None:
        try:
            future.set_result(running.result(timeout=self._timeout, turn=turn))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the result hears of it
            future.set_exception(error)

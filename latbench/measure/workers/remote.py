"""The far end of `latbench.measure.workers.ssh`: a `LocalExecutor` that is called on standard input.

Started there as ``python -m latbench.measure.workers.remote TIMEOUT``; `latbench.measure.workers.wire` is its language.
The end of standard input means that the connection is lost: this process ends at once, and the kernel ends its workers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import latbench
from latbench.executor import Executor
from latbench.measure.workers.local import LocalExecutor
from latbench.measure.workers.wire import MARK, Relayed, failure, place_from


def main() -> None:
    """Say which latbench this is, and answer calls until standard input ends."""
    answers = _Answers(os.dup(1))
    os.dup2(2, 1)  # what a library prints is no answer
    answers.write(latbench=latbench.__version__)
    calls: SimpleQueue[str] = SimpleQueue()
    # The calls are answered in this thread, which lives as long as the workers must.
    threading.Thread(target=_read, args=(calls,), daemon=True).start()
    with LocalExecutor(float(sys.argv[1])) as executor:
        while True:
            _answer(executor, json.loads(calls.get()), answers)


class _Answers:
    """Writes answers from several threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def write(self, **values: object) -> None:
        """Write one; a line that a shell has begun ends before it."""
        rest = f"\n{MARK}{json.dumps(values)}\n".encode()
        with self._lock:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def _read(calls: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        calls.put(line)
    os._exit(0)


def _answer(executor: Executor, call: Mapping[str, Any], answers: _Answers) -> None:
    number = call.get("id")
    try:
        match call["call"]:
            case "renew":
                executor.renew()
            case "places":
                places = executor.places(Relayed(**call["request"]).request)
                answers.write(id=number, result=list(map(dataclasses.asdict, places)))
            case "start":
                place = place_from(call["place"])
                executor.start(Relayed(**call["request"]), place).add_done_callback(
                    lambda future: _tell(future, number, answers)
                )
    except Exception as error:  # noqa: BLE001 - the caller hears of whatever went wrong
        answers.write(id=number, **failure(error))


def _tell(future: Future[Any], number: object, answers: _Answers) -> None:
    error = future.exception()
    if error is None:
        answers.write(id=number, result=future.result())
    else:
        answers.write(id=number, **failure(error))


if __name__ == "__main__":
    main()

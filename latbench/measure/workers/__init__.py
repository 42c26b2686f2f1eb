"""Worker processes for sessions: a crash, a hang or a lack of memory costs one session, never the run."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Generic, Self

from latbench import errors
from latbench.errors import MeasurementError, WorkerDiedError
from latbench.executor import Request, Result_co, SessionDiedError

PID = struct.Struct("q")
"""How process numbers are written to and read from the process that starts workers."""

SPACES = ("torch", "onnx", "latbench.onnx_export", "latbench.measure.workers.request")
"""What sessions of a search space import, and factories: it takes seconds."""

FILES = ("latbench.measure.one_model.request",)
"""What sessions of an ONNX file import; a runtime comes with its backend, and few need torch."""

_START = """
import sys
if sys.platform == "linux":
    import ctypes, os
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[2]):
        os._exit(1)
from latbench.measure.workers.zygote import main
main()
"""
"""What starts workers asks the kernel for its own death before it imports anything: PR_SET_PDEATHSIG is 1, SIGKILL 9.

Imports take seconds, and many on a busy machine, in which it would outlive a parent that is killed.
"""


class Workers:
    """Runs sessions in processes of their own, forked from one that has the heavy imports done.

    A context manager; leaving it ends every process. No process outlives the one that made it. Sessions may be waited
    for in several threads; the one that enters must live as long, for the kernel ends what a thread started with it.

    Args:
        preload: the modules that are imported once, before any session.
    """

    def __init__(self, preload: Sequence[str] = SPACES) -> None:
        self._preload = tuple(preload)

    def __enter__(self) -> Self:
        self._control, theirs = socket.socketpair()
        self._connections: dict[int, socket.socket] = {}
        self._lock = threading.RLock()
        self._stderr = tempfile.TemporaryFile("w+b")
        with theirs:
            self._zygote = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-c", _START, str(theirs.fileno()), str(os.getpid()), *self._preload],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                # Ctrl-C reaches the parent alone, which decides what happens to a session in flight.
                start_new_session=True,
                env=_environment(),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            for pid, connection in self._connections.items():
                with suppress(OSError), connection:  # wakes the thread that waits for it
                    connection.shutdown(socket.SHUT_RDWR)
                _kill(pid)
            self._connections.clear()
            self._control.close()
            self._zygote.kill()
            self._zygote.wait()
            self._stderr.close()

    def start(
        self,
        request: Request[Result_co],
        *,
        environment: Mapping[str, str] | None = None,
        cores: Collection[int] = (),
    ) -> RunningSession[Result_co]:
        """Start a session: it compiles on cores that no session is timed on, then waits for `RunningSession.result`.

        Args:
            request: what to run.
            environment: variables to set besides those of this process.
            cores: those that it may use; an empty set allows all.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            spoken = self._stderr.seek(0, os.SEEK_END)
            pid = self._ask(b"f", theirs.fileno())
            self._connections[pid] = ours
        kind = type(request)
        header = json.dumps({"environment": dict(environment or {}), "cores": sorted(cores)})
        ours.sendall(f"{header}\n{kind.__module__}:{kind.__name__} {request.to_json()}\n".encode())
        return RunningSession(self, pid, ours, request, spoken)

    def run(self, request: Request[Result_co], *, timeout: float = 120.0) -> Result_co:
        """Run one session from start to end; see `RunningSession.result`."""
        return self.start(request).result(timeout=timeout)

    def wait(self, pid: int, spoken: int) -> str:
        """Wait for the end of a worker and say how it came; `spoken` is where its part of the error stream begins."""
        with self._lock:
            status = self._ask(b"w" + PID.pack(pid))
            self._connections.pop(pid, None)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            cause = f"the worker was killed by {signal.Signals(number).name}"
            cause += " (out of memory?)" if number == signal.SIGKILL else ""
        else:
            cause = f"the worker exited with {os.waitstatus_to_exitcode(status)}"
        words = self._last_words(spoken)
        return f"{cause}: {words}" if words else cause

    def kill(self, pid: int) -> None:
        """Kill a worker, and what it has started, unless it has been waited for: its number may be another's then."""
        with self._lock:
            if pid in self._connections:
                _kill(pid)

    def _ask(self, message: bytes, *descriptors: int) -> int:
        with self._lock:
            try:
                socket.send_fds(self._control, [message], descriptors)
                answer: int = PID.unpack(self._control.recv(PID.size))[0]
            except (OSError, struct.error) as error:
                words = self._last_words(0) or "it left no message"
                raise WorkerDiedError(f"the process that starts workers died: {words}") from error
            return answer

    def _last_words(self, start: int) -> str:
        with self._lock:
            if self._stderr.closed:
                return ""
            self._stderr.seek(start)
            lines = self._stderr.read().decode(errors="replace").strip().splitlines()
            return lines[-1].strip() if lines else ""


class RunningSession(Generic[Result_co]):
    """A session in a worker process."""

    def __init__(
        self, workers: Workers, pid: int, connection: socket.socket, request: Request[Result_co], spoken: int
    ) -> None:
        self._workers, self._pid, self._connection, self._spoken = workers, pid, connection, spoken
        self._request = request

    def result(self, *, timeout: float = 120.0, turn: threading.Lock | None = None) -> Result_co:
        """Let the session be timed and return what it measured.

        Args:
            timeout: seconds that one model may take to compile, and that timing may exceed its own limit.
            turn: held while the session is timed; sessions that share it are timed one after another.

        Raises:
            SessionDiedError: the worker crashed, hung or was killed.
            LatbenchError: the worker refused the request.
        """
        with self._connection:
            try:
                with ExitStack() as held:
                    result = self._converse(timeout, turn, held)
            except _EndedError as ended:
                self._workers.kill(self._pid)
                cause = self._workers.wait(self._pid, self._spoken)
                raise SessionDiedError(ended.reason or cause, ended.index) from None
            except BaseException:
                self._workers.kill(self._pid)
                raise
        self._workers.wait(self._pid, self._spoken)
        return result

    def _converse(self, timeout: float, turn: threading.Lock | None, held: ExitStack) -> Result_co:
        index: int | None = None
        doing, limit = "starting", timeout
        lines = _Lines(self._connection)
        while True:
            try:
                event = lines.next(limit)
            except TimeoutError:
                words = f"no answer for {limit:g} s while {doing}: give --timeout a larger value"
                raise _EndedError(index, words) from None
            if event is None:
                raise _EndedError(index)
            match event["event"]:
                case "compiling" | "verifying" | "warming" as phase:
                    index, doing = event["index"], "warming up" if phase == "warming" else phase
                case "compiled":
                    if turn is not None:
                        held.enter_context(turn)
                        turn = None
                    self._send(b"time\n", index)
                case "timing" | "running":
                    index, doing, limit = None, "timing", timeout + self._request.max_seconds
                case "finished":
                    return self._request.read_result(event["result"])
                case "refused":
                    raise getattr(errors, event["error"], MeasurementError)(event["message"])
                case _:
                    raise _EndedError(index, event["message"])

    def _send(self, line: bytes, index: int | None) -> None:
        try:
            self._connection.sendall(line)
        except OSError:
            raise _EndedError(index) from None


class _EndedError(Exception):
    def __init__(self, index: int | None, reason: str = "") -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


class _Lines:
    """JSON lines from a socket, each within a time limit."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def next(self, seconds: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._connection.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError:  # reset by the worker, or closed with the run
                return None
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event


def _environment() -> dict[str, str]:
    """Return the variables of a worker: the caller's import path, and no thread pools that spin beside a timed run."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def _kill(pid: int) -> None:
    """Kill a worker, and what it has started."""
    with suppress(ProcessLookupError, PermissionError):  # macOS may not signal a group that is dead already
        os.killpg(pid, signal.SIGKILL)

"""The process that worker processes are forked from: it has imported what is heavy, so a worker costs milliseconds.

Started by `latbench.measure.workers` with the arguments FD, PID and MODULE..., where FD is one end of a Unix socket,
PID is the parent, and the modules are what it imports. It speaks to its parent in lockstep: ``b"f"`` with a file
descriptor forks a worker that serves that descriptor and answers with its pid; ``b"w"`` and a pid waits for that worker
and answers with its wait status.
The end of the socket means that the parent is gone; on Linux, the kernel says so at once. Each worker leads a process
group, so that what a library starts in it, as some energy counters do, ends with it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from latbench.devices.host import divided_cores
from latbench.errors import CounterError, UsageError, reason
from latbench.measure.workers import PID

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve fork requests until the parent closes its end."""
    for module in sys.argv[3:]:
        importlib.import_module(module)
    # Imports leave no garbage, and looking for it in every worker would cost 100 ms and copy their pages.
    gc.freeze()
    workers: set[int] = set()

    def end(*_: object) -> None:
        for pid in workers:
            _end_group(pid)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    _die_with(int(sys.argv[2]), signal.SIGTERM)
    with socket.socket(fileno=int(sys.argv[1])) as control:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, 1 + PID.size, 1)
            if not message:
                break
            if message[:1] == b"w":
                (pid,) = PID.unpack(message[1:])
                _, status = os.waitpid(pid, 0)
                _end_group(pid)
                workers.remove(pid)
                control.sendall(PID.pack(status))
                continue
            zygote, pid = os.getpid(), os.fork()
            if pid == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                control.close()
                _serve(socket.socket(fileno=descriptors[0]), zygote)
            workers.add(pid)
            os.setpgid(pid, pid)  # before the parent knows it, so before it does anything
            os.close(descriptors[0])
            control.sendall(PID.pack(pid))
    end()


def _serve(connection: socket.socket, zygote: int) -> None:
    """Run one session: read a header and a request, write events, one JSON document a line; then end this process."""
    _die_with(zygote, signal.SIGKILL)
    if sys.platform != "linux":
        _watch(connection)
    stream = connection.makefile("rw", encoding="utf-8")

    def send(**event: object) -> None:
        stream.write(json.dumps(event) + "\n")
        stream.flush()

    try:
        header = json.loads(stream.readline())
        os.environ.update(header["environment"])
        if header["cores"]:
            _pin(set(header["cores"]))
        name, _, text = stream.readline().partition(" ")
        module, _, kind = name.partition(":")
        request = getattr(importlib.import_module(module), kind).from_json(text)
        compiling, timing = divided_cores(request.threads)
        _pin(compiling or timing)

        def notify(phase: str, index: int) -> None:
            send(event=phase, index=index)
            if phase == "compiled":
                stream.readline()  # until the parent wants this session timed
                _pin(timing)

        result = request.run(notify)
        send(event="finished", result=result.to_json())
    except (UsageError, CounterError) as error:  # no model is to blame
        send(event="refused", error=type(error).__name__, message=str(error))
    except BaseException as error:  # noqa: BLE001 - a forked process must never return into the zygote's loop
        send(event="crashed", message=reason(error))
        os._exit(1)
    os._exit(0)


def _end_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS may not signal a group that is dead already
        os.killpg(leader, signal.SIGKILL)


def _pin(cores: set[int]) -> None:
    """Keep this process from migrating."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _die_with(parent: int, number: signal.Signals) -> None:
    """Have the kernel send a signal to this process when its parent dies, and end it if that has died already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)


def _watch(connection: socket.socket) -> None:
    """End this process when the other end of its connection is gone: where the kernel does not tell."""

    def watch() -> None:
        while connection.recv(1, socket.MSG_PEEK):
            threading.Event().wait(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""A connection over ssh to `latbench.measure.workers.remote` on another machine, and in words why there is none."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import latbench
from latbench.errors import UsageError
from latbench.measure.workers.wire import MARK

OPTIONS = (
    "-T",
    "-oBatchMode=yes",
    "-oServerAliveInterval=15",
    "-oServerAliveCountMax=4",
    "-oControlMaster=no",
)
"""What is asked of ssh beside the user's own configuration: it must not ask a question that nobody answers, and it must
see within a minute that the other machine is gone. It may use a connection that the user shares, and shares none."""

END_S = 2.0
"""Seconds that ssh may take to end when its input does."""

SSH_FAILED = 255
NOT_FOUND = (126, 127)
"""The exit codes of ssh itself, and of a shell that cannot run a command."""

_REMEDIES = {
    "Permission denied": "give it your key with 'ssh-copy-id {host}', or load the key with ssh-add",
    "Host key verification failed": "run 'ssh {host}' once and accept its key, if it is the right one",
    "Could not resolve hostname": "correct the name, or its entry in ~/.ssh/config",
}
"""Remedies for what ssh says; ``{host}`` is what the user calls the machine."""


class ConnectionLostError(Exception):
    """The other machine does not answer any more; the message says why, as far as ssh does."""


class Connection:
    """Starts latbench on another machine, and exchanges lines with it.

    Args:
        host: ``user@board``, or a name of the user's ssh configuration.
        python: the Python there that has latbench.
        timeout: seconds until it must have answered, and that one model may take to compile there.

    Raises:
        UsageError: the machine cannot be reached, or has no latbench of this version.
    """

    def __init__(self, host: str, python: str, timeout: float) -> None:
        self._host, self._python = host, python
        self._stderr = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - `end` closes it
        self._printed = b""
        command = f"{_word(python)} -m latbench.measure.workers.remote {timeout:g}"
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own ssh
                ["ssh", *OPTIONS, "--", host, command],  # noqa: S607
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                # Ctrl-C reaches this process alone, which ends the connection in its own way.
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise UsageError(f"ssh does not start ({error}): install OpenSSH's client") from error
        try:
            self._greet(timeout)
        except BaseException:
            self.end()
            raise

    def send(self, values: Mapping[str, Any]) -> None:
        """Send one line; where the connection is lost, `answers` ends."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # broken, or closed by `end`
            self._process.stdin.write(f"{json.dumps(values)}\n".encode())
            self._process.stdin.flush()

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yield what comes back until the connection is lost, or an answer has been damaged."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK.encode()):
                try:
                    answer: dict[str, Any] = json.loads(line[len(MARK) :])
                except ValueError:  # cut short by the end, or mixed with what something else has printed
                    return
                yield answer
            elif line.strip():
                self._printed = line

    def ask(self, values: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """Send one line and return the next answer, where nothing else is on its way.

        Raises:
            ConnectionLostError: there is none within `timeout` seconds.
        """
        timer = threading.Timer(timeout, self._kill)
        timer.start()
        try:
            self.send(values)
            answer = next(self.answers(), None)
        finally:
            timer.cancel()
        if answer is None:
            raise ConnectionLostError(self.end())
        return answer

    def hang_up(self) -> None:
        """End the connection, and with it whatever runs at its other end; `answers` ends soon."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._kill()

    def end(self) -> str:
        """Hang up and return the last that ssh has said; nobody reads `answers` any more."""
        assert self._process.stdout is not None
        self.hang_up()
        self._process.wait()
        self._process.stdout.close()
        words = self._last_words()
        self._stderr.close()
        return words

    def _greet(self, timeout: float) -> None:
        timer = threading.Timer(timeout, self._kill)
        timer.start()
        try:
            hello = next(self.answers(), None)
        finally:
            timer.cancel()
        if hello is None:
            raise UsageError(self._why_not())
        if hello.get("latbench") != latbench.__version__:
            raise UsageError(
                f"{self._host} has latbench {hello.get('latbench')}, and this machine {latbench.__version__}: "
                f"install the same there, pip install 'latbench=={latbench.__version__}'"
            )

    def _why_not(self) -> str:
        """Say in words why nothing has answered."""
        self.hang_up()
        code, words = self._process.wait(), self._last_words()
        if code == -signal.SIGKILL:
            return f"{self._host} does not answer: check that it is up, or give --timeout a larger value"
        if code == SSH_FAILED:
            known = (remedy for said, remedy in _REMEDIES.items() if said in words)
            remedy = next(known, "check that 'ssh {host}' works without a question").format(host=self._host)
            return f"{self._host} cannot be reached ({words or 'ssh does not say why'}): {remedy}"
        if code in NOT_FOUND:
            return (
                f"{self._python!r} does not run on {self._host} ({words or code}): name its Python with --host-python"
            )
        return self._without_latbench(words or f"it ended with {code}")

    def _without_latbench(self, words: str) -> str:
        install = f"pip install 'latbench=={latbench.__version__}' there"
        match re.search(r"No module named '?(latbench[\w.]*)", words):
            case None:
                check = f"ssh {self._host} {self._python} -m latbench --version"
                return f"latbench does not start on {self._host} ({words}): check that {check!r} works"
            case found if found[1] == "latbench":
                return (
                    f"{self._python} on {self._host} has no latbench: {install}, "
                    "or name the Python that has it with --host-python"
                )
        return f"{self._host} has another version of latbench: {install}"

    def _last_words(self) -> str:
        """Return the last line that ssh, or else a shell there, has printed."""
        self._stderr.seek(0)
        lines = (self._printed + b"\n" + self._stderr.read()).decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _word(path: str) -> str:
    """Quote a path for the shell there, but for the home folder in front."""
    home, slash, rest = path.partition("/")
    return home + slash + shlex.quote(rest) if slash and home.startswith("~") else shlex.quote(path)

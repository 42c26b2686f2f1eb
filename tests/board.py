"""A machine to reach over ssh that is this one: by a script in place of ssh, or by a server of ssh of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

HOST = "user@board"

SCRIPT = """#!/bin/sh
# ssh [options] -- host command: runs the command here.
while [ "$1" != "--" ]; do shift; done
echo "$2 $3" >> {folder}/calls
if [ -e {folder}/refused ]; then cat {folder}/refused >&2; exit 255; fi
if [ -e {folder}/printed ]; then cat {folder}/printed; fi
echo $$ >> {folder}/pids
eval "exec $3"
"""


class FakeBoard:
    """What `ssh` finds on PATH runs its command here. Files in `folder` say what happens to the next connection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = folder / "ssh"
        script.write_text(SCRIPT.format(folder=folder))
        script.chmod(0o755)

    def refuse(self, words: str) -> None:
        """Let ssh end with these words from now on."""
        (self.folder / "refused").write_text(words)

    def allow(self) -> None:
        """Let ssh connect again."""
        (self.folder / "refused").unlink()

    def print(self, text: str) -> None:
        """Print this before every session, as a login shell may."""
        (self.folder / "printed").write_text(text)

    def python(self, lines: str) -> str:
        """Write a program to be called in place of Python, with ``$@`` as its arguments, and return its path."""
        path = self.folder / "python"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        return str(path)

    def calls(self) -> list[str]:
        """Return what ssh was asked: host and command."""
        return (self.folder / "calls").read_text().splitlines()

    def processes(self) -> list[psutil.Process]:
        """Return the far ends that run."""
        found = []
        for pid in map(int, (self.folder / "pids").read_text().split()):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def drop(self) -> None:
        """Lose the connection."""
        for process in self.processes():
            process.kill()


def ssh_server() -> str | None:
    """Return the path of a server of ssh, which starts only when called by its whole path; None where there is none."""
    return shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def why_no_server() -> str | None:
    """Say why no server of ssh can be started here, or None."""
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    if ssh_server() is None or missing:
        return f"needs {', '.join(missing or ['sshd'])}: install openssh-client and openssh-server"
    if os.geteuid() == 0:
        try:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd gives up its privileges
        except OSError as error:
            return f"sshd cannot run as root here: {error}"
    return None


class SshBoard:
    """A server of ssh on this machine, with keys of its own. `ssh` on PATH reads a configuration that knows `HOST`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for key in ("host", "user", "stranger"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(command, check=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.python = folder / "python"
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self.python.write_text(f"#!/bin/sh\nPYTHONPATH='{paths}' exec '{sys.executable}' \"$@\"\n")
        self.python.chmod(0o755)
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin yes\n"
        )
        self.let_in("user")
        script = folder / "ssh"
        script.write_text(f"#!/bin/sh\nexec '{shutil.which('ssh')}' -F {folder}/ssh_config \"$@\"\n")
        script.chmod(0o755)

    def let_in(self, key: str) -> None:
        """Log in with this key from now on."""
        (self.folder / "ssh_config").write_text(
            f"Host board\n  HostName 127.0.0.1\n  Port {self.port}\n  IdentityFile {self.folder}/{key}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.folder}/known\n  StrictHostKeyChecking accept-new\n"
        )

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the server."""
        server = ssh_server()
        assert server is not None
        command = [server, "-D", "-E", str(self.folder / "log"), "-f", str(self.folder / "sshd_config")]
        self.process = subprocess.Popen(command)
        try:
            while not self._answers():
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
            yield
        finally:
            self.drop()
            self.process.terminate()
            self.process.wait()

    def drop(self) -> None:
        """Lose every connection: the server's processes for them are killed."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if process.name().startswith("sshd"):
                with suppress(psutil.NoSuchProcess):
                    os.kill(process.pid, signal.SIGKILL)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """Let the programs of a folder come first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield

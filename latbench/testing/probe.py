"""A request that measures nothing and tells where, when and with what it ran: for tests of an executor."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latbench.errors import UsageError
from latbench.executor import Notify


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe saw.

    Args:
        pid: the process that it ran in.
        begin: seconds since the epoch at which it was timed.
        end: likewise, until when.
        environment: the variables of its process.
    """

    pid: int
    begin: float
    end: float
    environment: Mapping[str, str] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Probe:
    """Compiles workload 0, is timed for a while, and answers; or ends before, as scripted.

    Args:
        seconds: for how long it is timed.
        dies: its process is killed while it compiles.
        refuses: what it raises a `UsageError` with.
    """

    seconds: float = 0.0
    dies: bool = False
    refuses: str = ""

    @property
    def threads(self) -> int:
        """It needs none."""
        return 1

    @property
    def max_seconds(self) -> float:
        """It is timed for so long."""
        return self.seconds

    def to_json(self) -> str:
        """Write the request as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Probe:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    def run(self, notify: Notify) -> ProbeResult:
        """Run the script.

        Raises:
            UsageError: the script says so.
        """
        notify("compiling", 0)
        if self.refuses:
            raise UsageError(self.refuses)
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        notify("compiled", -1)
        notify("timing", -1)
        begin = time.time()
        time.sleep(self.seconds)
        return ProbeResult(os.getpid(), begin, time.time(), dict(os.environ))

    def read_result(self, values: Mapping[str, Any]) -> ProbeResult:
        """Read what `ProbeResult.to_json` wrote."""
        return ProbeResult(**values)

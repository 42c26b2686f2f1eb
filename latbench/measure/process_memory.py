"""The memory that this process holds."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def process_mib() -> float:
    """Return the resident memory of this process in MiB, without what it has freed and keeps for later."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    resident: int = psutil.Process().memory_info().rss
    return resident / 2**20


class PeakMemory:
    """The most resident memory of this process since a block was entered. A context manager."""

    def __enter__(self) -> Self:
        try:
            _RESET.write_text(_RESET_PEAK)
            self._tells = True
        except OSError:  # not Linux, or a kernel without it
            self._tells = False
        return self

    def mib(self) -> float | None:
        """Return it in MiB; None where the kernel does not tell."""
        if not self._tells:
            return None
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 2**10 if "VmHWM" in lines else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the kernel's count as it is."""

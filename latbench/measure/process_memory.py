"""The memory that this process holds."""

from __future__ import annotations

import ctypes
import gc
import sys

import psutil


def process_mib() -> float:
    """Return the resident memory of this process in MiB, without what it has freed and keeps for later."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    resident: int = psutil.Process().memory_info().rss
    return resident / 2**20

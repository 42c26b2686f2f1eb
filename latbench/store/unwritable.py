"""Reading a store that cannot be written: of another user, in a folder or on a mount that is read-only.

SQLite reads a store through two files beside it: ``-wal``, which holds what has been written last, and ``-shm``, its
index. Both are there while a process has the store open, and after it was killed: then SQLite reads the store in place,
whoever writes meanwhile. Where they are missing SQLite makes them, which a read-only folder does not allow, and which a
reader who may not write the store should not do: files of another user shut out the store's owner. So a copy is read.
SQLite's own answer, ``immutable=1``, looks past a ``-wal`` and does not notice a writer that comes later.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from latbench.errors import StoreError


def can_be_read_in_place(path: Path) -> bool:
    """Whether SQLite finds what it needs beside a store, or may make it there."""
    store, wal, index = _files(path)
    return (os.access(store, os.W_OK) and os.access(store.parent, os.W_OK)) or (wal.exists() and index.exists())


def copy_in_memory(path: Path) -> sqlite3.Connection:
    """Return a connection to a copy of a store, ``-wal`` included, that refuses to be written.

    Raises:
        StoreError: another process began to write to the store.
        sqlite3.Error: it is not an SQLite file.
        OSError: the store cannot be read, or there is no room for temporary files.
    """
    store, wal, index = _files(path)
    with tempfile.TemporaryDirectory(prefix="latbench-") as folder:
        copy = Path(folder, "copy.db")
        before = [_state(file) for file in (store, wal, index)]
        shutil.copyfile(store, copy)
        if wal.exists():
            shutil.copyfile(wal, f"{copy}-wal")
        if [_state(file) for file in (store, wal, index)] != before:
            raise StoreError(f"another process began to write to {path} while it was read: try again")
        memory = sqlite3.connect(":memory:", isolation_level=None)
        source = sqlite3.connect(copy)
        try:
            source.backup(memory)
        except BaseException:
            memory.close()
            raise
        finally:
            source.close()
    memory.execute("PRAGMA query_only = ON")
    return memory


def _files(path: Path) -> tuple[Path, Path, Path]:
    """Return a store's file, its ``-wal`` and its ``-shm``; SQLite keeps them beside what a link leads to."""
    store = path.resolve()
    return store, Path(f"{store}-wal"), Path(f"{store}-shm")


def _state(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns

"""The SQLite file of a store: its schema, how it is created and opened, and its transactions.

Opens in any SQLite tool; the view ``measurements`` joins each row with the session that it depends on.

Schema history:
    1   first
    2   several quantities: the column ``quantity``, conditions of each quantity, and ``mean_power_w``
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latbench.errors import StoreError
from latbench.store.unwritable import can_be_read_in_place, copy_in_memory

SCHEMA_VERSION = 2
_APPLICATION_ID = 0x6C617462  # "latb": tells a store from any other SQLite file
_BUSY_SECONDS = 60.0

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE conditions (quantity TEXT PRIMARY KEY, conditions TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE session (
    name TEXT PRIMARY KEY, reference REAL, seed INTEGER NOT NULL, environment TEXT NOT NULL, created_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE measurement (
    id INTEGER PRIMARY KEY, quantity TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    replicate INTEGER NOT NULL, value REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
    wall REAL, mean_power_w REAL, flags TEXT NOT NULL, digest TEXT NOT NULL,
    session TEXT NOT NULL REFERENCES session (name), position INTEGER NOT NULL,
    build_ms REAL NOT NULL, compile_ms REAL NOT NULL, timing_ms REAL NOT NULL,
    blocks BLOB NOT NULL -- the value of each visit in visiting order, float32, little endian
);
-- A reference is measured in every session, everything else once for each replicate.
CREATE UNIQUE INDEX measured_once ON measurement (quantity, kind, subject, replicate) WHERE kind <> 'reference';
CREATE INDEX measured_again ON measurement (quantity, replicate) WHERE replicate > 0;
CREATE UNIQUE INDEX referenced_once ON measurement (session, subject) WHERE kind = 'reference';
CREATE TABLE failure (
    quantity TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, replicate INTEGER NOT NULL,
    reason TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (quantity, kind, subject, replicate)
) WITHOUT ROWID;
-- What a process is measuring right now; a claim lapses with its process.
CREATE TABLE claim (
    quantity TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, replicate INTEGER NOT NULL,
    host TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, claimed REAL NOT NULL,
    PRIMARY KEY (quantity, kind, subject, replicate)
) WITHOUT ROWID;
CREATE VIEW measurements AS
    SELECT m.id, m.quantity, m.kind, m.subject, m.replicate, m.value, m.low, m.high, m.wall, m.mean_power_w,
        s.reference, m.flags, m.digest, m.session, m.position, m.build_ms, m.compile_ms, m.timing_ms,
        s.seed, s.environment, s.created_at
    FROM measurement m JOIN session s ON s.name = m.session;
"""


class StoreFile:
    """A connection to the SQLite file of a store.

    Args:
        path: the file; made, with its folder, when `identity` is given and there is none.
        identity: what the caller wants to write, as JSON; None opens an existing store to read, wherever it is.

    Raises:
        StoreError: there is no store, the file is not one or has another schema, or the folder cannot be written and
            must be.
    """

    def __init__(self, path: Path, identity: str | None) -> None:
        self.path, self._absolute = path, path.absolute()  # the current folder may change
        with self._explained("read" if identity is None else "open"):
            if identity is None and not path.exists():
                raise StoreError(f"no store at {path}: run 'latbench profile --store {path}' first")
            if identity is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = (
                sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
                if identity is not None or can_be_read_in_place(path)
                else copy_in_memory(path)
            )
            self._db.row_factory = sqlite3.Row
            self._inode: int | None = None
            try:
                self._prepare(identity)
            except BaseException:
                self._db.close()
                raise
            self._inode = path.stat().st_ino

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def remove_if(self, is_empty: Callable[[], bool]) -> None:
        """Remove the file if a condition holds while nobody else can write."""
        with self.transaction("remove"):
            if is_empty():
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self._absolute}{suffix}").unlink(missing_ok=True)

    def query(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self._db.execute(sql, values)

    def fact(self, name: str) -> str | None:
        """Return a fact of the whole store."""
        row = self.query("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else row["value"]

    def set_fact(self, name: str, value: str) -> None:
        """Write a fact of the whole store, in place of one of that name."""
        self.query("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @contextmanager
    def transaction(self, doing: str) -> Iterator[None]:
        """Write all of a block or nothing; `doing` says in a message what failed.

        Raises:
            StoreError: the file cannot be written; the message says what to do.
        """
        with self._explained(doing):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._check_file()
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _check_file(self) -> None:
        """Check that the file is still there: one that was removed takes writes too."""
        if self._inode is not None and not (self._absolute.exists() and self._absolute.stat().st_ino == self._inode):
            raise StoreError(f"{self.path} was removed or replaced while it was written: run the same command again")

    def _prepare(self, identity: str | None) -> None:
        if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            if identity is None:
                raise StoreError(f"{self.path} is empty: run 'latbench profile --store {self.path}' first")
            self._create(identity)
        application, version = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != _APPLICATION_ID:
            raise StoreError(f"{self.path} is not a latbench store but another SQLite file: choose another --store")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema {version}, this latbench reads {SCHEMA_VERSION}: "
                "export it with the version that wrote it and import it with this one"
            )
        self._db.execute("PRAGMA synchronous = NORMAL")  # with WAL: a crash of the process loses nothing

    def _create(self, identity: str) -> None:
        self._write_ahead()
        with self.transaction("create"):
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return  # another process was faster
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._db.execute("INSERT INTO facts VALUES ('identity', ?)", (identity,))

    def _write_ahead(self) -> None:
        """Change the journal's mode; SQLite does not wait for other processes here."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot {doing} {self.path}: {error}; {_remedy(doing, str(error))}") from error


def _remedy(doing: str, message: str) -> str:
    if doing == "read" and "Permission" in message:
        return "have its owner let you read it"
    remedies = {
        "temporary": "set TMPDIR to a folder that you may write to",
        "full": "free some space and run the same command again; what was measured is safe",
        "No space": "free some space and run the same command again; what was measured is safe",
        "readonly": "choose a folder that you may write to",
        "read-only": "choose a folder that you may write to",
        "Read-only": "choose a folder that you may write to",
        "No such file": "choose a folder that you may write to",
        "Permission": "choose a folder that you may write to",
        "unable to open": "choose a folder that you may write to",
        "not a database": "choose another --store; this file is not a latbench store",
        "locked": "another process holds it; try again",
    }
    return next((remedy for word, remedy in remedies.items() if word in message), "choose another --store")

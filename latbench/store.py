"""Measurements on disk: one SQLite file a profile, one row a measurement.

Opens in any SQLite tool; the view ``measurements`` joins each row with the session that it depends on.

Schema history:
    1   first
"""

from __future__ import annotations

import dataclasses
import json
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
from numpy.typing import NDArray

from latbench.errors import StoreError
from latbench.measure.request import Subject
from latbench.measure.session import Failure
from latbench.measurement import Conditions, Measurement
from latbench.profile import Profile
from latbench.space import SpaceSpec

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x6C617462  # "latb": tells a store from any other SQLite file
_BUSY_SECONDS = 60.0

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE session (
    name TEXT PRIMARY KEY, reference REAL, seed INTEGER NOT NULL, environment TEXT NOT NULL, created_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE measurement (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, replicate INTEGER NOT NULL,
    value REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL, wall REAL, flags TEXT NOT NULL, digest TEXT NOT NULL,
    session TEXT NOT NULL REFERENCES session (name), position INTEGER NOT NULL,
    build_ms REAL NOT NULL, compile_ms REAL NOT NULL, timing_ms REAL NOT NULL,
    blocks BLOB NOT NULL -- the value of each visit in visiting order, float32, little endian
);
-- A reference is measured in every session, everything else once for each replicate.
CREATE UNIQUE INDEX measured_once ON measurement (kind, subject, replicate) WHERE kind <> 'reference';
CREATE INDEX measured_again ON measurement (replicate) WHERE replicate > 0;
CREATE UNIQUE INDEX referenced_once ON measurement (session, subject) WHERE kind = 'reference';
CREATE TABLE failure (
    kind TEXT NOT NULL, subject TEXT NOT NULL, replicate INTEGER NOT NULL,
    reason TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (kind, subject, replicate)
) WITHOUT ROWID;
-- What a process is measuring right now; a claim lapses with its process.
CREATE TABLE claim (
    kind TEXT NOT NULL, subject TEXT NOT NULL, replicate INTEGER NOT NULL,
    host TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, claimed REAL NOT NULL,
    PRIMARY KEY (kind, subject, replicate)
) WITHOUT ROWID;
CREATE VIEW measurements AS
    SELECT m.id, m.kind, m.subject, m.replicate, m.value, m.low, m.high, m.wall, s.reference, m.flags, m.digest,
        m.session, m.position, m.build_ms, m.compile_ms, m.timing_ms, s.seed, s.environment, s.created_at
    FROM measurement m JOIN session s ON s.name = m.session;
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a store is for: a profile with another identity goes into another store."""

    space: SpaceSpec
    backend: str
    precision: str
    threads: int
    batch: int
    cache: str
    options: Mapping[str, str]

    def differences(self, other: Identity) -> list[str]:
        """Return ``"threads (1 there, 2 here)"`` for every field that differs."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))
        return [f"{name} ({mine} there, {theirs} here)" for name, mine, theirs in pairs if mine != theirs]


class Store:
    """One profile on disk. A context manager. Safe for several processes, and for ``kill -9`` at any moment.

    Args:
        path: the file; made, with its folder, when `identity` is given and there is none.
        identity: what the caller wants to write; None opens an existing store to read.

    Raises:
        StoreError: no such store, not a store, another schema or identity, or a folder that cannot be written.
    """

    def __init__(self, path: str | Path, identity: Identity | None = None) -> None:
        self.path = Path(path)
        with self._explained("open"):
            if identity is None and not self.path.exists():
                raise StoreError(f"no store at {path}: run 'latbench profile --store {path}' first")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            try:
                self._prepare(identity)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def discard_if_empty(self) -> None:
        """Remove the file if nothing was ever measured: what a mistake began must not stand in the way."""
        if self.conditions is None and not self.failures():
            self._db.close()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    @property
    def identity(self) -> Identity:
        """What this store is for."""
        values = json.loads(self._fact("identity") or "{}")
        return Identity(**{**values, "space": SpaceSpec(**values["space"])})

    @property
    def conditions(self) -> Conditions | None:
        """What all measurements share; None while nothing has been measured."""
        text = self._fact("conditions")
        return None if text is None else Conditions.from_json(json.loads(text))

    def add(self, conditions: Conditions, measurements: Sequence[Measurement]) -> None:
        """Write a session's measurements in one transaction; what is there already stays as it was.

        Raises:
            StoreError: other conditions than the store's, or the file cannot be written.
        """
        with self._transaction("write to"):
            self._check_conditions(conditions)
            for m in measurements:
                self._db.execute(
                    "INSERT OR IGNORE INTO session VALUES (?, ?, ?, ?, ?)",
                    (m.session, m.reference, m.seed, json.dumps(dict(m.environment)), m.created_at),
                )
                self._db.execute(
                    "INSERT OR IGNORE INTO measurement (kind, subject, replicate, value, low, high, wall, flags,"
                    " digest, session, position, build_ms, compile_ms, timing_ms, blocks)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(
                            m.kind,
                            m.subject,
                            m.replicate,
                            m.value,
                            m.low,
                            m.high,
                            m.wall,
                            json.dumps(m.flags),
                            m.digest,
                        ),
                        *(m.session, m.order, m.build_ms, m.compile_ms, m.timing_ms),
                        np.asarray(m.blocks, "<f4").tobytes(),
                    ),
                )
                self._release(m.kind, m.subject, m.replicate)

    def add_failures(self, failures: Sequence[Failure], created_at: str) -> None:
        """Write what could not be measured, and why; it is not tried again."""
        with self._transaction("write to"):
            for f in failures:
                row = (f.kind, f.subject, f.replicate, f.reason, created_at)
                self._db.execute("INSERT OR REPLACE INTO failure VALUES (?, ?, ?, ?, ?)", row)
                self._release(f.kind, f.subject, f.replicate)

    def claim(self, wanted: Iterator[Subject], most: int) -> list[Subject]:
        """Take the next subjects from `wanted`, and reserve up to `most` that are neither done nor reserved."""
        me = psutil.Process()
        owner = (socket.gethostname(), me.pid, me.create_time())
        claimed: list[Subject] = []
        with self._transaction("write to"):
            for subject in wanted:
                key = (subject.kind, subject.text, subject.replicate)
                if self._is_done(key) or self._is_claimed(key):
                    continue
                self._db.execute(
                    "INSERT OR REPLACE INTO claim VALUES (?, ?, ?, ?, ?, ?, ?)", (*key, *owner, time.time())
                )
                claimed.append(subject)
                if len(claimed) == most:
                    break
        return claimed

    def holds(self, subject: Subject) -> bool:
        """Whether a subject has been measured, or has failed."""
        return self._is_done((subject.kind, subject.text, subject.replicate))

    def count(self, kind: str, replicate: int = 0) -> int:
        """Return how many subjects of a kind have been measured."""
        query = "SELECT count(*) FROM measurement WHERE kind = ? AND replicate = ?"
        counted: int = self._db.execute(query, (kind, replicate)).fetchone()[0]
        return counted

    def measurements(self) -> tuple[Measurement, ...]:
        """Read every measurement, in the order of writing."""
        sessions = {
            row["name"]: {
                "reference": row["reference"],
                "seed": row["seed"],
                "environment": json.loads(row["environment"]),
                "created_at": row["created_at"],
            }
            for row in self._db.execute("SELECT * FROM session")
        }
        rows = self._db.execute("SELECT * FROM measurement ORDER BY id")
        return tuple(_measurement(row, sessions[row["session"]]) for row in rows)

    def duplicates(self) -> NDArray[np.float64]:
        """Read the blind duplicates as pairs ``(pairs, 2)`` of values relative to their sessions' references."""
        rows = self._db.execute(
            "SELECT a.value / coalesce(s.reference, 1) AS first, b.value / coalesce(t.reference, 1) AS again"
            " FROM measurement b JOIN measurement a ON a.kind = b.kind AND a.subject = b.subject AND a.replicate = 0"
            " JOIN session s ON s.name = a.session JOIN session t ON t.name = b.session"
            " WHERE b.kind = 'architecture' AND b.replicate > 0 AND a.kind <> 'reference'"
        )
        return np.array([tuple(row) for row in rows], dtype=np.float64).reshape(-1, 2)

    def failures(self) -> tuple[Failure, ...]:
        """Read what could not be measured."""
        rows = self._db.execute("SELECT kind, subject, reason, replicate FROM failure ORDER BY created_at")
        return tuple(Failure(**row) for row in rows)

    def profile(self) -> Profile:
        """Read the store as a profile.

        Raises:
            StoreError: nothing has been measured.
        """
        conditions = self.conditions
        if conditions is None:
            raise StoreError(f"{self.path} holds no measurement yet: run 'latbench profile --store {self.path}' first")
        return Profile(self.identity.space.create(), conditions, self.measurements())

    def _prepare(self, identity: Identity | None) -> None:
        if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            if identity is None:
                raise StoreError(f"{self.path} is empty: run 'latbench profile --store {self.path}' first")
            self._create(identity)
        application, version = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != _APPLICATION_ID:
            raise StoreError(f"{self.path} is no latbench store but another SQLite file: choose another --store")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema {version}, this latbench reads {SCHEMA_VERSION}: "
                "export it with the version that wrote it and import it with this one"
            )
        self._db.execute("PRAGMA synchronous = NORMAL")  # with WAL: a crash of the process loses nothing
        if identity is not None and (differences := self.identity.differences(identity)):
            raise StoreError(f"{self.path} is a profile with another {', '.join(differences)}: choose another --store")

    def _create(self, identity: Identity) -> None:
        self._write_ahead()
        with self._transaction("create"):
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return  # another process was faster
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._db.execute("INSERT INTO facts VALUES ('identity', ?)", (json.dumps(dataclasses.asdict(identity)),))

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

    def _check_conditions(self, conditions: Conditions) -> None:
        known = self.conditions
        if known is None:
            self._db.execute("INSERT INTO facts VALUES ('conditions', ?)", (json.dumps(conditions.to_json()),))
        elif differences := known.differences(conditions):
            raise StoreError(
                f"{self.path} was measured under other conditions ({', '.join(differences)} differ): "
                "choose another --store"
            )

    def _fact(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else row["value"]

    def _is_done(self, key: tuple[str, str, int]) -> bool:
        where = "WHERE kind = ? AND subject = ? AND replicate = ?"
        queries = (
            f"SELECT 1 FROM measurement {where} AND kind <> 'reference'",  # noqa: S608 - what the index measured_once needs
            f"SELECT 1 FROM failure {where}",  # noqa: S608
        )
        return any(self._db.execute(query, key).fetchone() for query in queries)

    def _is_claimed(self, key: tuple[str, str, int]) -> bool:
        row = self._db.execute("SELECT * FROM claim WHERE kind = ? AND subject = ? AND replicate = ?", key).fetchone()
        return row is not None and _alive(row)

    def _release(self, kind: str, subject: str, replicate: int) -> None:
        key = (kind, subject, replicate)
        self._db.execute("DELETE FROM claim WHERE kind = ? AND subject = ? AND replicate = ?", key)

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[None]:
        with self._explained(doing):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot {doing} {self.path}: {error}; {_remedy(str(error))}") from error


def _remedy(message: str) -> str:
    remedies = {
        "full": "free some space and run the same command again; what was measured is safe",
        "No space": "free some space and run the same command again; what was measured is safe",
        "readonly": "choose a folder that you may write to",
        "read-only": "choose a folder that you may write to",
        "Read-only": "choose a folder that you may write to",
        "No such file": "choose a folder that you may write to",
        "Permission": "choose a folder that you may write to",
        "unable to open": "choose a folder that you may write to",
        "not a database": "choose another --store; this file is no latbench store",
        "locked": "another process holds it; try again",
    }
    return next((remedy for word, remedy in remedies.items() if word in message), "choose another --store")


def _alive(claim: sqlite3.Row) -> bool:
    """Whether the process that made a claim may still deliver."""
    if claim["host"] != socket.gethostname():
        return bool(time.time() - claim["claimed"] < 3600)
    try:
        return bool(psutil.Process(claim["pid"]).create_time() == claim["started"])
    except psutil.NoSuchProcess:
        return False


def _measurement(row: sqlite3.Row, session: Mapping[str, Any]) -> Measurement:
    return Measurement(
        kind=row["kind"],
        subject=row["subject"],
        replicate=row["replicate"],
        value=row["value"],
        low=row["low"],
        high=row["high"],
        wall=row["wall"],
        flags=tuple(json.loads(row["flags"])),
        digest=row["digest"],
        session=row["session"],
        order=row["position"],
        build_ms=row["build_ms"],
        compile_ms=row["compile_ms"],
        timing_ms=row["timing_ms"],
        blocks=tuple(np.frombuffer(row["blocks"], "<f4").tolist()),
        **session,
    )

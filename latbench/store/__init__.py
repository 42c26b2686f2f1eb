"""Measurements on disk: one SQLite file a profile, one row a measurement, one or more quantities."""

from __future__ import annotations

import dataclasses
import json
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
from numpy.typing import NDArray

from latbench.errors import StoreError
from latbench.records.measurement import Conditions, Measurement
from latbench.records.profile import Profile
from latbench.records.structure import Structure
from latbench.records.subjects import Failure, Subject
from latbench.space import SpaceSpec
from latbench.store.file import StoreFile
from latbench.store.identity import IMPORTED, Identity

__all__ = ["IMPORTED", "Identity", "Store"]

_COLUMNS = (
    *("kind", "subject", "replicate", "value", "low", "high", "wall", "mean_power_w"),
    *("digest", "session", "build_ms", "compile_ms", "timing_ms"),
)
"""Fields of a measurement that are columns of the same name."""

_WORK = ("measurement", "failure", "claim")
"""Tables that hold what was measured, what could not be, and what is being measured."""

_WHERE = "WHERE quantity = ? AND kind = ? AND subject = ? AND replicate = ?"


class Store:
    """One quantity of one profile on disk. A context manager. Safe with several processes, and against ``kill -9``.

    Args:
        path: the file; made, with its folder, when `identity` is given and there is none.
        identity: what the caller wants to write; None opens an existing store to read, wherever it is.
        quantity: ``"latency"``, ``"energy"``, ...: what is read and written. Unless given, it is the one that the store
            holds, and latency where it holds several or none.

    Raises:
        StoreError: there is no store, the file is not one or has another schema or identity, or the folder cannot be
            written and must be.
    """

    def __init__(self, path: str | Path, identity: Identity | None = None, *, quantity: str | None = None) -> None:
        self.path = Path(path)
        self._file = StoreFile(self.path, None if identity is None else json.dumps(dataclasses.asdict(identity)))
        self._claimed: set[tuple[str, str, int]] = set()
        self._retried: set[tuple[str, str, int]] = set()
        held = self.quantities
        self.quantity = quantity or (held[0] if len(held) == 1 else "latency")
        if identity is not None and (differences := self.identity.differences(identity)):
            self._file.close()
            raise StoreError(f"{path} is a profile with another {', '.join(differences)}: choose another --store")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been measured, and no process is measuring."""
        return not any(self._file.query(f"SELECT 1 FROM {table}").fetchone() for table in _WORK)

    def discard_if_empty(self) -> None:
        """Remove the file if it holds nothing and no process is measuring: a mistake must not leave a store behind."""
        with suppress(StoreError):  # another process was faster, and the user must read of the mistake itself
            self._file.remove_if(lambda: self.is_empty)

    @property
    def quantities(self) -> tuple[str, ...]:
        """The quantities that have been measured, in alphabetical order."""
        return tuple(row[0] for row in self._file.query("SELECT quantity FROM conditions ORDER BY quantity"))

    @property
    def identity(self) -> Identity:
        """What this store is for."""
        values = json.loads(self._file.fact("identity") or "{}")
        return Identity(**{**values, "space": SpaceSpec(**values["space"])})

    @property
    def conditions(self) -> Conditions | None:
        """What all measurements share; None while nothing has been measured."""
        row = self._file.query("SELECT conditions FROM conditions WHERE quantity = ?", (self.quantity,)).fetchone()
        return None if row is None else Conditions.from_json(json.loads(row[0]))

    def check_structure(self, structure: Structure) -> None:
        """Keep what the space's references are made of; an older store learns it here.

        Raises:
            StoreError: they differ from those that the store was made with: the space has been edited since.
        """
        with self._file.transaction("write to"):
            text = self._file.fact("structure")
            known = None if text is None else Structure.from_json(json.loads(text))
            if known is not None and (difference := known.difference(structure)):
                raise StoreError(
                    f"{self.path} holds measurements of another version of {self.identity.space}: {difference}; "
                    "choose another --store"
                )
            kept = structure if known is None else known.joined(structure)
            self._file.set_fact("structure", json.dumps(kept.to_json()))

    def add(self, conditions: Conditions, measurements: Sequence[Measurement]) -> None:
        """Write a session's measurements in one transaction; what is there already stays as it was.

        Raises:
            StoreError: the conditions differ from the store's, or the file cannot be written.
        """
        with self._file.transaction("write to"):
            self._check_conditions(conditions)
            for m in measurements:
                self._file.query(
                    "INSERT OR IGNORE INTO session VALUES (?, ?, ?, ?, ?)",
                    (m.session, m.reference, m.seed, json.dumps(dict(m.environment)), m.created_at),
                )
                row = {
                    "quantity": self.quantity,
                    "position": m.order,
                    "flags": json.dumps(m.flags),
                    "blocks": np.asarray(m.blocks, "<f4").tobytes(),
                    **{name: getattr(m, name) for name in _COLUMNS},
                }
                columns = ", ".join(row)
                self._file.query(
                    f"INSERT OR IGNORE INTO measurement ({columns}) VALUES ({', '.join('?' * len(row))})",
                    tuple(row.values()),
                )
                self._succeeded(m.kind, m.subject, m.replicate)

    def add_failures(self, failures: Sequence[Failure], created_at: str) -> None:
        """Write what could not be measured, and why; it is not tried again until `retry_failures`."""
        with self._file.transaction("write to"):
            for f in failures:
                row = (self.quantity, f.kind, f.subject, f.replicate, f.reason, created_at)
                self._file.query("INSERT OR REPLACE INTO failure VALUES (?, ?, ?, ?, ?, ?)", row)
                self._retried.discard((f.kind, f.subject, f.replicate))
                self._release(f.kind, f.subject, f.replicate)

    def retry_failures(self) -> None:
        """Make this object try failures again; each failure stays until it is tried."""
        self._retried = {(f.kind, f.subject, f.replicate) for f in self.failures()}

    def claim(self, wanted: Iterator[Subject], most: int) -> list[Subject]:
        """Take the next subjects from `wanted`, and reserve up to `most` that are neither done nor reserved."""
        me = psutil.Process()
        owner = (socket.gethostname(), me.pid, _started(me))
        claimed: list[Subject] = []
        with self._file.transaction("write to"):
            for subject in wanted:
                key = (subject.kind, subject.text, subject.replicate)
                if self._is_done(key) or self._is_claimed(key):
                    continue
                row = (self.quantity, *key, *owner, time.time())
                self._file.query("INSERT OR REPLACE INTO claim VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
                self._claimed.add(key)
                claimed.append(subject)
                if len(claimed) == most:
                    break
        return claimed

    def release(self) -> None:
        """Give back what this object has reserved and not written; otherwise this process keeps it until it ends."""
        with self._file.transaction("write to"):
            for key in tuple(self._claimed):
                self._release(*key)

    def holds(self, subject: Subject) -> bool:
        """Whether a subject has been measured, or has failed."""
        return self._is_done((subject.kind, subject.text, subject.replicate))

    def count(self, kind: str, replicate: int = 0) -> int:
        """Return how many subjects of a kind have been measured."""
        query = "SELECT count(*) FROM measurement WHERE quantity = ? AND kind = ? AND replicate = ?"
        counted: int = self._file.query(query, (self.quantity, kind, replicate)).fetchone()[0]
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
            for row in self._file.query("SELECT * FROM session")
        }
        rows = self._file.query("SELECT * FROM measurement WHERE quantity = ? ORDER BY id", (self.quantity,))
        return tuple(_measurement(row, sessions[row["session"]]) for row in rows)

    def duplicates(self) -> NDArray[np.float64]:
        """Read the blind duplicates as pairs ``(pairs, 2)`` of values relative to their sessions' references."""
        rows = self._file.query(
            "SELECT a.value / coalesce(s.reference, 1) AS first, b.value / coalesce(t.reference, 1) AS again"
            " FROM measurement b JOIN measurement a"
            " ON a.quantity = b.quantity AND a.kind = b.kind AND a.subject = b.subject AND a.replicate = 0"
            " JOIN session s ON s.name = a.session JOIN session t ON t.name = b.session"
            " WHERE b.quantity = ? AND b.kind = 'architecture' AND b.replicate > 0 AND a.kind <> 'reference'",
            (self.quantity,),
        )
        return np.array([tuple(row) for row in rows], dtype=np.float64).reshape(-1, 2)

    def failures(self) -> tuple[Failure, ...]:
        """Read what could not be measured."""
        query = "SELECT kind, subject, reason, replicate FROM failure WHERE quantity = ? ORDER BY created_at"
        rows = self._file.query(query, (self.quantity,))
        return tuple(Failure(**row) for row in rows)

    def profile(self) -> Profile:
        """Read the store as a profile.

        Raises:
            StoreError: nothing has been measured.
        """
        conditions = self.conditions
        if conditions is None:
            raise StoreError(f"{self.path} {self._lack()}")
        return Profile(self.identity.space.create(), conditions, self.measurements())

    def _lack(self) -> str:
        """Say that there is no measurement of the quantity, and what to do."""
        held = self.quantities
        flags = {"latency": "", "energy": " --meter METER"}.get(self.quantity, f" --quantity {self.quantity}")
        measure = f"run 'latbench profile --store {self.path}{flags}'"
        if not held:
            return f"holds no measurement yet: {measure} first"
        what = f"holds {', '.join(held)} and no {self.quantity}: leave out --quantity to read {held[0]}"
        return what if self.identity.backend == IMPORTED else f"{what}, or {measure} first"

    def _check_conditions(self, conditions: Conditions) -> None:
        if conditions.quantity != self.quantity:
            raise StoreError(
                f"{self.path} is open for {self.quantity} and not for {conditions.quantity}: "
                f"open it as Store(..., quantity={conditions.quantity!r})"
            )
        known = self.conditions
        if known is None:
            row = (self.quantity, json.dumps(conditions.to_json()))
            self._file.query("INSERT INTO conditions VALUES (?, ?)", row)
        elif differences := known.differences(conditions):
            raise StoreError(
                f"{self.path} was measured under other conditions ({', '.join(differences)} differ): "
                "choose another --store"
            )

    def _is_done(self, key: tuple[str, str, int]) -> bool:
        queries = (
            f"SELECT 1 FROM measurement {_WHERE} AND kind <> 'reference'",  # as the index measured_once has it
            *(() if key in self._retried else (f"SELECT 1 FROM failure {_WHERE}",)),
        )
        return any(self._file.query(query, (self.quantity, *key)).fetchone() for query in queries)

    def _is_claimed(self, key: tuple[str, str, int]) -> bool:
        row = self._file.query(f"SELECT * FROM claim {_WHERE}", (self.quantity, *key)).fetchone()
        return row is not None and _alive(row)

    def _succeeded(self, kind: str, subject: str, replicate: int) -> None:
        if (kind, subject, replicate) in self._retried:
            self._file.query(f"DELETE FROM failure {_WHERE}", (self.quantity, kind, subject, replicate))
        self._release(kind, subject, replicate)

    def _release(self, kind: str, subject: str, replicate: int) -> None:
        self._claimed.discard((kind, subject, replicate))
        self._file.query(f"DELETE FROM claim {_WHERE}", (self.quantity, kind, subject, replicate))


def _alive(claim: sqlite3.Row) -> bool:
    """Whether the process that made a claim may still deliver."""
    if claim["host"] != socket.gethostname():
        return bool(time.time() - claim["claimed"] < 3600)
    try:
        return bool(abs(_started(psutil.Process(claim["pid"])) - claim["started"]) < 1)
    except psutil.NoSuchProcess:
        return False


def _started(process: psutil.Process) -> float:
    """Return when a process started, in seconds since the machine did, which no change of its clock moves."""
    booted: float = psutil.boot_time()
    return float(process.create_time() - booted)


def _measurement(row: sqlite3.Row, session: Mapping[str, Any]) -> Measurement:
    return Measurement.from_json(
        {
            "order": row["position"],
            "flags": json.loads(row["flags"]),
            "blocks": np.frombuffer(row["blocks"], "<f4").tolist(),
            **{name: row[name] for name in _COLUMNS},
            **session,
        }
    )

"""What is kept between builds: engines, and what the library has timed or compiled for them.

Native code reads these files and may crash on what it did not write, so each one starts with a SHA-256 of the rest. A
file that is cut short, damaged, or made for something else is ignored with a `CacheWarning`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latbench.records.writing import write_atomically
from latbench_tensorrt.engine import Engine, Layer

SEEDING = 16
"""How many builds, one session's, may add to a shared cache before it is frozen: from then on all networks are built
from the same timings, whatever was built before them."""
MOST_MIB = 4096
"""Beyond this size engines are deleted, least recently used first."""
_MAGIC = b"latbench cache 1\n"


class CacheWarning(UserWarning):
    """A cached file could not be read or written; it is rebuilt or left out."""


def cache_folder() -> Path:
    """Return where files are kept: under ``LATBENCH_CACHE``, else under the user's cache folder."""
    given = os.environ.get("LATBENCH_CACHE")
    if given:
        return Path(given, "tensorrt")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "latbench", "tensorrt")


def key_of(*parts: object) -> str:
    """Return a name that only equal parts share."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class EngineCache:
    """Engines, found by everything that they are built from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "engines"

    def get(self, key: str) -> Engine | None:
        """Return an engine that `put` kept."""
        path = self._folder / key
        found = _read(path, key)
        if found is None:
            return None
        with suppress(OSError):
            os.utime(path)
        meta, data = found
        layers = tuple(
            Layer(**{**layer, "nodes": tuple(layer["nodes"]), "precisions": tuple(layer["precisions"])})
            for layer in meta["layers"]
        )
        return Engine(data, layers, meta["precision"], meta["build_ms"], cached=True)

    def put(self, key: str, engine: Engine) -> None:
        """Keep an engine, and drop the oldest ones where there are too many."""
        meta = {
            "layers": [asdict(layer) for layer in engine.layers],
            "precision": engine.precision,
            "build_ms": engine.build_ms,
        }
        _write(self._folder / key, key, meta, engine.data)
        self._prune()

    def _prune(self) -> None:
        with suppress(OSError):  # another process prunes too
            files = sorted(((path.stat(), path) for path in self._folder.iterdir()), key=lambda file: -file[0].st_mtime)
            size = 0
            for stat, path in files:
                size += stat.st_size
                if size > MOST_MIB * 2**20:
                    path.unlink(missing_ok=True)


class SharedCache:
    """What builds on one device share: the first builds add to it, then it is frozen.

    Args:
        path: of the file.
        key: what must be equal for it to be of use.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        meta, self.data = _read(path, key) or ({"builds": 0}, b"")
        self._builds: int = meta["builds"]

    @property
    def frozen(self) -> bool:
        """Whether builds only read it."""
        return self._builds >= SEEDING

    @property
    def digest(self) -> str:
        """The SHA-256 of its content; empty while there is none."""
        return hashlib.sha256(self.data).hexdigest() if self.data else ""

    def add(self, data: bytes) -> None:
        """Replace the content by what a build has made of it, unless another process has frozen it."""
        with _locked(self._path):
            now = SharedCache(self._path, self._key)
            if now.frozen:
                self.data, self._builds = now.data, now._builds
                return
            self.data, self._builds = data, now._builds + 1
            _write(self._path, self._key, {"builds": self._builds}, data)


def _read(path: Path, key: str) -> tuple[dict[str, Any], bytes] | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        warn(f"cannot read {path} ({error.strerror}): it is built again")
        return None
    start = len(_head(b""))
    head, body = content[:start], content[start:]
    if head != _head(body):
        warn(f"{path} is damaged or not a file of latbench: it is built again")
        return None
    header, _, data = body.partition(b"\n")
    meta = json.loads(header)
    if meta["key"] != key:
        warn(f"{path} was made for another model, library or device: it is built again")
        return None
    return meta, data


def _head(body: bytes) -> bytes:
    """Return what precedes the rest of a file."""
    return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n"


def _write(path: Path, key: str, meta: Mapping[str, Any], data: bytes) -> None:
    """Write a file, all or nothing."""
    body = json.dumps({"key": key, **meta}).encode() + b"\n" + data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _head(body) + body)
    except OSError as error:
        warn(f"cannot write {path} ({error.strerror}): set LATBENCH_CACHE to a folder that can be written")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out; without a folder for the lock there is nothing to share."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def warn(message: str) -> None:
    """Warn about a file that cannot be used."""
    warnings.warn(message, CacheWarning, stacklevel=4)

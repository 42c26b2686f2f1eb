"""What a check is given, and where its rows go: to disk one by one, so that a check that dies leaves what it has."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from latbench import plugins
from latbench.backend import Backend, CompileOptions
from latbench.errors import LatbenchError, UsageError
from latbench.model import Model
from latbench.records.subjects import architecture_model
from latbench.spaces.darts import DartsSpace

Status = Literal["done", "failed", "not run"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the summary, and the numbers behind it."""

    check: str
    what: str
    result: str
    status: Status = "done"
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_rows(path: Path) -> list[Row]:
    """Read the rows that a check wrote, whole ones only."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Row(**json.loads(line)) for line in lines]


@dataclass(frozen=True)
class Job:
    """One check in its own process.

    Args:
        check: its name.
        rows: the file for its rows.
        folder: scratch, shared by all checks of a run.
        deadline: of the monotonic clock; what is not begun by then is not run.
        dry: whether the CPU stands in for the GPU, with little of everything.
    """

    check: str
    rows: Path
    folder: Path
    deadline: float
    dry: bool

    @property
    def backend(self) -> str:
        """The backend that PyTorch's checks use."""
        return "cpu" if self.dry else "cuda"

    @cached_property
    def space(self) -> DartsSpace:
        """The architectures that are measured."""
        return DartsSpace(cells=3, channels=4, image=8) if self.dry else DartsSpace()

    def open_backend(self, name: str = "") -> Backend:
        """Return a backend, PyTorch's unless named.

        Raises:
            UsageError: it is not available here.
        """
        backend: Backend = plugins.configure(plugins.BACKENDS, name or self.backend, {})
        return backend

    @property
    def batch(self) -> int:
        """The larger of the two batches that are measured; the other is 1."""
        return self.some(64, 2)

    def some(self, real: int, dry: int) -> int:
        """Return how many of something to take."""
        return dry if self.dry else real

    def net(self, batch: int = 1, *, seed: int = 5) -> Model:
        """Return one architecture of the space."""
        return architecture_model(self.space, self.space.sample(1, seed=seed)[0], batch=batch)

    @property
    def left(self) -> float:
        """Seconds that are left to this check."""
        return self.deadline - time.monotonic()

    def row(self, what: str, result: str, facts: Mapping[str, Any] | None = None, *, status: Status = "done") -> None:
        """Write one row."""
        with self.rows.open("a") as file:
            file.write(json.dumps(asdict(Row(self.check, what, result, status, facts or {})), default=float) + "\n")

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Run a part of a check: what fails, or is not available here, becomes a row; the others go on."""
        try:
            yield
        except UsageError as error:
            self.row(what, str(error), status="not run")
        except ModuleNotFoundError as error:
            self.row(what, f"{error.name} is not installed", status="not run")
        except LatbenchError as error:
            self.row(what, str(error), status="failed")
        except Exception as error:  # noqa: BLE001 - native libraries raise anything
            self.row(what, f"{type(error).__name__}: {error}", {"traceback": traceback.format_exc()}, status="failed")

    def is_over(self, what: str) -> bool:
        """Tell whether no time is left; if so, say that `what` is not run."""
        if self.left > 0:
            return False
        self.row(what, "no time left for it", status="not run")
        return True


def options(precision: str = "fp32", **given: str) -> CompileOptions:
    """Return how a model is compiled."""
    return CompileOptions(precision, options=given)

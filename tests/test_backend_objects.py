"""A backend object is measured in other processes where they can build its equal, and refused where they cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from latbench.errors import UsageError
from latbench.measure.workers.backend_name import backend_name
from latbench.profiling import profile_space
from latbench.profiling.architectures import measure_architectures
from latbench.store import Store
from latbench.testing import NullBackend
from tests.test_profiling import FAST, SPACE


@dataclass
class Tuned(NullBackend):
    level: int = 1


class Plain(NullBackend):
    name: ClassVar[str] = "plain"

    def __init__(self) -> None:
        super().__init__()


class Told(Plain):
    def __init__(self, level: int = 1) -> None:
        super().__init__()


def test_an_object_is_spelled_by_its_class() -> None:
    assert backend_name("onnxruntime") == "onnxruntime"
    assert backend_name(NullBackend()) == "latbench.testing.null:NullBackend"
    assert backend_name(Tuned()) == f"{__name__}:Tuned"
    assert backend_name(Plain()) == f"{__name__}:Plain"


@pytest.mark.parametrize(
    ("backend", "name"),
    [(NullBackend(lambda model: 1.0), "cost_ms"), (Tuned(level=2), "level"), (Told(), "level")],
)
def test_an_object_that_others_cannot_build_is_refused(backend: NullBackend, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"was made with {name}, and the processes .* make a subclass"):
        profile_space(SPACE, backend, tmp_path / "a.db", samples=1)
    assert not list(tmp_path.iterdir())


def test_a_class_is_no_backend() -> None:
    with pytest.raises(UsageError, match=r"NullBackend is a class: give an instance, NullBackend\(\)"):
        backend_name(NullBackend)  # type: ignore[arg-type]


def test_a_class_of_a_function_is_refused() -> None:
    class Local(NullBackend):
        """Nobody else finds it."""

    with pytest.raises(UsageError, match="made inside a function"):
        backend_name(Local())


def test_an_object_is_profiled_and_measured(tmp_path: Path) -> None:
    summary = profile_space(SPACE, Plain(), tmp_path / "a.db", samples=2, settings=FAST)
    assert summary.architectures == 2
    with Store(tmp_path / "a.db") as store:
        assert store.profile().conditions.backend == f"{__name__}:Plain"
    (architecture,) = SPACE.sample(1, seed=0)
    assert measure_architectures(SPACE, [architecture], NullBackend(), settings=FAST)[0].value > 0

"""A space that is written down and created again is the space that was asked for, or it is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from torch import nn

from latbench import plugins
from latbench.errors import LatbenchError, PluginError, UsageError
from latbench.measure.settings import Settings
from latbench.profiling.architectures import measure_architectures
from latbench.space import SpaceSpec
from latbench.spaces.choices import Choice, ChoiceSpace
from latbench.spaces.nasbench201 import NasBench201Space

SMALL = {"cells": 1, "channels": 4, "image": 8}
FAST = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")


@dataclass(frozen=True)
class Doubled(NasBench201Space):
    """Inherits its parent's name, and is another space."""

    def stages(self) -> list[tuple[int, int]]:
        return [(channels, size) for channels, size in super().stages() for _ in range(2)]


@dataclass(frozen=True)
class Plain:
    """Has a name of its own, that is registered nowhere."""

    width: float = 0.5
    depth: int = 2
    head: str = "linear"
    pretrained: bool = False
    seed: int = field(default=0, init=False)

    name: ClassVar[str] = "unheard"

    def sample(self) -> None: ...

    def encode(self) -> None: ...

    def build(self) -> None: ...


class Outer:
    class Inner(Plain):
        """Not at the top of its module."""


@dataclass(frozen=True)
class Listed(Plain):
    widths: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Hidden(Plain):
    secret: int = field(default=3, init=False)


@dataclass(frozen=True, eq=False)
class ByIdentity(Plain):
    """Equal to nothing but itself, as far as Python knows."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Undeclared(Plain):
    """Not decorated, with an argument that no field has."""

    def __init__(self, width: float = 0.5, depth: int = 2, head: str = "", pretrained: bool = False, more: int = 1):
        super().__init__(width, depth, head, pretrained)
        object.__setattr__(self, "more", more)


class Undecorated(ChoiceSpace):
    """Keeps nothing of its own; its base class caches what follows from the decisions."""

    name = "undecorated"
    decisions = (Choice("kernel", (3, 5)),)

    def build(self, architecture: object) -> nn.Module:
        return nn.Identity()


class Stateless:
    name: ClassVar[str] = "stateless"
    sample = encode = build = Plain.sample


class Stateful(Stateless):
    def __init__(self, width: int = 1) -> None:
        self.width = width


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (NasBench201Space(**SMALL), "nasbench201"),
        (Doubled(**SMALL), f"{__name__}:Doubled"),
        (Plain(width=0.25, pretrained=True), f"{__name__}:Plain"),
        (Outer.Inner(head="conv"), f"{__name__}:Outer.Inner"),
        (Stateless(), f"{__name__}:Stateless"),
        (ByIdentity(depth=3), f"{__name__}:ByIdentity"),
        (Undeclared(more=1), f"{__name__}:Undeclared"),
        (Undecorated(), f"{__name__}:Undecorated"),
    ],
)
def test_a_space_is_spelled_by_what_loads_its_class(space: object, name: str) -> None:
    spec = SpaceSpec.of(space)
    assert spec.name == name
    again = spec.create()
    assert type(again) is type(space)
    assert isinstance(space, Stateless | ByIdentity | Undecorated) or again == space


def test_a_space_that_has_been_used_is_still_spelled() -> None:
    space = Undecorated()
    assert len(space.columns) == 2
    assert SpaceSpec.of(space) == SpaceSpec(f"{__name__}:Undecorated", {})


def local_space() -> object:
    @dataclass(frozen=True)
    class Local(Plain):
        pass

    return Local()


def hidden_space() -> object:
    space = Hidden()
    object.__setattr__(space, "secret", 4)
    return space


def replaced_space() -> object:
    original, replacement = Plain, dataclass(frozen=True)(type("Plain", (Plain,), {"__module__": __name__}))
    assert replacement is not original
    return replacement()


def prompted_space() -> object:
    return dataclass(frozen=True)(type("Prompted", (Plain,), {"__module__": "__main__"}))()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (local_space, "made inside a function.*: move it to its module"),
        (replaced_space, "is another class than the given one"),
        (
            Listed,
            "field 'widths' of 'Listed' is a tuple: .*write several values as one text, such as '16,32'",
        ),
        (lambda: Plain(depth=np.int64(3)), "field 'depth' of 'Plain' is a int64"),
        (lambda: Undeclared(more=2), "with other attributes: make everything that it depends on a field"),
        (hidden_space, "with other attributes: make everything that it depends on a field"),
        (lambda: Plain(width=float("nan")), "field 'width' of 'Plain' is nan: give a finite number"),
        (lambda: Stateful(2), "'Stateful' is not a dataclass.*: write @dataclass"),
    ],
)
def test_what_cannot_be_made_again_is_refused(make, message: str) -> None:
    space = make()
    with pytest.raises(UsageError, match=message):
        SpaceSpec.of(space)


def test_a_class_of_a_prompt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(UsageError, match=r"made in a notebook or a prompt.*: write it to a file"):
        SpaceSpec.of(prompted_space())


@pytest.mark.parametrize("name", ["subprocess:Popen", "os:system", "os:path"])
@pytest.mark.parametrize("kind", [plugins.SPACES, plugins.BACKENDS, plugins.METERS, plugins.PREDICTORS])
def test_a_crafted_name_calls_nothing(kind: plugins.Kind, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen.__init__", lambda *_, **__: pytest.fail("called"))
    monkeypatch.setattr("os.system", lambda command: pytest.fail("called"))
    with pytest.raises(UsageError, match=r"is not a |, not a class"):
        plugins.configure(kind, name, {"args": "true"} if name == "subprocess:Popen" else {"command": "true"})


def test_a_subclass_is_measured_as_itself() -> None:
    parent, child = NasBench201Space(**SMALL), Doubled(**SMALL)
    architectures = parent.sample(1, seed=0)
    values = [
        measure_architectures(space, architectures, "latbench.testing:NullBackend", settings=FAST)[0].value
        for space in (parent, child)
    ]
    assert values[1] > 1.5 * values[0]


def test_texts_are_read_as_the_fields_are_annotated() -> None:
    texts = {"width": "1", "depth": "3", "head": "7", "pretrained": "Yes"}
    spec = SpaceSpec.read(f"{__name__}:Plain", texts)
    assert spec.create() == Plain(1.0, 3, "7", True)
    assert [type(value) for value in spec.config.values()] == [float, int, str, bool]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"depth": "2.5"}, "depth=2.5 is not an integer: write for example depth=8"),
        ({"width": "wide"}, "width=wide is not a number: write for example width=0.5"),
        ({"width": "nan"}, "width=nan is not a number"),
        ({"pretrained": "2"}, "pretrained=2 is neither yes nor no: write pretrained=yes or pretrained=no"),
        ({"dept": "2"}, "no keyword 'dept': did you mean 'depth'"),
    ],
)
def test_texts_that_are_no_values_name_the_field(texts: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SpaceSpec.read(f"{__name__}:Plain", texts).create()


SCRIPT = """
from dataclasses import dataclass
from latbench import SpaceSpec, measure_architectures
from latbench.measure.settings import Settings
from latbench.spaces.choices import Choice, ChoiceSpace
from latbench.spaces.nasbench201 import NasBench201Space

@dataclass(frozen=True)
class Mine(NasBench201Space):
    pass

{guard}
    space = Mine(cells=1, channels=4, image=8)
    assert SpaceSpec.of(space).name == "my_script:Mine"
    assert type(SpaceSpec.of(space).create()) is Mine
    fast = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")
    print(measure_architectures(space, space.sample(1, seed=0), "latbench.testing:NullBackend", settings=fast)[0].value)
"""


@pytest.mark.parametrize("command", [["my_script.py"], ["-m", "my_script"]])
def test_a_space_of_the_running_script_is_measured(tmp_path: Path, command: list[str]) -> None:
    run = run_script(tmp_path, command, "if __name__ == '__main__':")
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) > 0


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    run = run_script(tmp_path, ["my_script.py"], "if True:")
    assert run.returncode != 0
    assert "'my_script' measures while it is imported: put what it runs under 'if __name__" in run.stderr


def run_script(folder: Path, command: list[str], guard: str) -> subprocess.CompletedProcess[str]:
    (folder / "my_script.py").write_text(SCRIPT.format(guard=guard))
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)


def test_every_refusal_is_one_of_ours() -> None:
    with pytest.raises(LatbenchError):
        SpaceSpec.of(object())
    with pytest.raises(PluginError, match="no space named 'dart': did you mean 'darts'"):
        SpaceSpec.read("dart", {})

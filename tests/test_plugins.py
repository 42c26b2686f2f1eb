"""Plug-ins are found by entry point, and whatever is wrong with one costs nobody else anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from latbench import plugins
from latbench.errors import PluginError, UsageError
from latbench.plugins import BACKENDS, configure, load, names, status

MODULE = """
class Fine:
    def __init__(self, size: int = 1) -> None:
        self.size = size

    def device(self) -> None: ...

    def compile(self) -> None: ...

class Breaks(Fine):
    def __init__(self) -> None:
        raise RuntimeError("CUDA error 999")
"""
BACKENDS_OF = {
    "first": {"fine": "test_plugin_fine:Fine", "breaks": "test_plugin_fine:Breaks", "twice": "test_plugin_fine:Fine"},
    "second": {
        "old": "test_plugin_old:Fine",
        "lacks": "test_plugin_lacks:Fine",
        "gone": "test_plugin_gone:Fine",
        "nameless": "test_plugin_fine:Nobody",
        "twice": "test_plugin_fine:Fine",
    },
}


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "test_plugin_fine.py").write_text(MODULE)
    (tmp_path / "test_plugin_old.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')")
    (tmp_path / "test_plugin_boom.py").write_text("raise RuntimeError('no licence')")
    (tmp_path / "test_plugin_lacks.py").write_text("import no_such_library")
    for package, points in BACKENDS_OF.items():
        folder = tmp_path / f"{package}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\nProvides-Extra: lacks\n")
        lines = "".join(f"{name} = {target}\n" for name, target in points.items())
        (folder / "entry_points.txt").write_text(f"[latbench.backends]\n{lines}")
    monkeypatch.syspath_prepend(tmp_path)
    plugins._registered.cache_clear()
    yield
    plugins._registered.cache_clear()


def test_a_plugin_is_built_with_its_keywords() -> None:
    assert configure(BACKENDS, "fine", {"size": 3}).size == 3
    with pytest.raises(UsageError, match="backend 'fine' has no keyword 'seize': did you mean 'size'"):
        configure(BACKENDS, "fine", {"seize": 1})
    with pytest.raises(UsageError, match="has no keyword 'colour': there is only 'size'"):
        configure(BACKENDS, "fine", {"colour": 1})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("old", r"'old' does not load \(OSError: libgomp\.so\.1: cannot open .*\): install second and what it needs"),
        ("lacks", r"'lacks' needs 'no_such_library': pip install 'second\[lacks\]'"),
        ("test_plugin_boom:X", r"'test_plugin_boom:X' does not load \(RuntimeError: no licence\): install "),
        (":Ridge", "':Ridge' does not load"),
        ("gone", "'gone' is in a module that does not exist: 'test_plugin_gone'"),
        ("nameless", "module 'test_plugin_fine' has no 'Nobody': name a backend as 'module:Class'"),
        ("twice", "'twice' is registered by first and second: uninstall one, or name the class as 'module:Class'"),
        ("finn", r"no backend named 'finn': did you mean 'fine'\?$"),
        ("xyz", "no backend named 'xyz': choose one of .*fine.*, or name a class as 'module:Class'$"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(name: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        load(BACKENDS, name)
    if name in names(BACKENDS):
        told = status(BACKENDS, name)
        assert not told.available
        assert re.search(message, told.reason)


def test_a_plugin_of_another_kind_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'test_plugin_fine:Fine' is not a meter, it has no counter\(\): name one"):
        configure(plugins.METERS, "test_plugin_fine:Fine", {})


def test_what_is_no_class_is_refused() -> None:
    with pytest.raises(UsageError, match="backend 'os:path' is a module, not a class: name a class as 'module:Class'"):
        configure(BACKENDS, "os:path", {})


def test_whatever_a_plugin_raises_is_why_it_is_not_available() -> None:
    assert status(BACKENDS, "fine").available
    with pytest.raises(PluginError, match=r"'breaks' cannot be used \(RuntimeError: CUDA error 999\)"):
        configure(BACKENDS, "breaks", {})
    told = status(BACKENDS, "breaks")
    assert (told.available, told.package, told.reason) == (False, "first", "RuntimeError: CUDA error 999")

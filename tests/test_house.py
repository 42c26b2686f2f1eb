"""The rules of the house: dependencies point from plug-ins to the core, and nothing heavy loads unasked."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import latbench
from latbench import plugins

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "latbench").rglob("*.py"))
PLUGINS = sorted([*(ROOT / "backends").rglob("*.py"), *(ROOT / "predictors").rglob("*.py")])


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def own_package(path: Path) -> str:
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_no_plugin(path: Path) -> None:
    assert not {name for name in imported(path) if name.startswith("latbench_")}


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_do_not_import_each_other(path: Path) -> None:
    others = {name for name in imported(path) if name.startswith("latbench_")}
    assert {name.split(".")[0] for name in others} <= {own_package(path)}


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_compares_nothing_with_a_plugins_name(path: Path) -> None:
    names = {point.name for kind in plugins.KINDS for point in entry_points(group=kind.group)} - {"cpu", "cuda"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare | ast.Match):
            constants = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            assert not constants & names, f"line {node.lineno} compares with the name of a plug-in"


def test_every_public_name_exists_and_is_listed_once() -> None:
    assert sorted(set(latbench.__all__)) == sorted(latbench.__all__)
    for name in latbench.__all__:
        assert getattr(latbench, name).__doc__, name
    assert set(latbench.__all__) == set(dir(latbench))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'profil'"):
        latbench.profil  # noqa: B018


@pytest.mark.parametrize("statement", ["import latbench", "import latbench.cli", "import latbench.store"])
def test_importing_loads_no_heavy_library(statement: str) -> None:
    code = f"import sys; {statement}; print([m for m in ('torch', 'onnx', 'sklearn', 'pyarrow') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_no_file_is_a_drawer() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in [*CORE, *PLUGINS]}
    assert not {
        path.name: size for path, size in sizes.items() if size > 400 or path.stem in ("utils", "helpers", "misc")
    }


def test_nothing_reads_or_writes_pickle() -> None:
    for path in [*CORE, *PLUGINS]:
        assert not imported(path) & {"pickle", "joblib", "dill", "cloudpickle", "shelve"}, path

"""The rules of the house: dependencies point one way, each helper has one home, and nothing heavy loads unasked."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import latbench
from latbench import plugins

ROOT = Path(__file__).parent.parent
MOST_CONTRACTS = 12
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


def called(path: Path) -> set[str]:
    """Return what a file calls, as it is written: ``os.fsync``, ``str(error).partition``."""
    return {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}


def texts(path: Path) -> set[str]:
    """Return the texts of a file but for its docstrings."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = (node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return {node.value for node in constants if isinstance(node.value, str)}


def users(uses: Callable[[Path], bool]) -> list[str]:
    """Return the files of the core and of our plug-ins that use something."""
    return [str(path.relative_to(ROOT)) for path in [*CORE, *PLUGINS] if uses(path)]


def room(path: Path) -> str:
    """Return the folder of a module; a file at the top of latbench/ is a room of its own."""
    inside = path.relative_to(ROOT).with_suffix("")
    return ".".join(inside.parts if len(inside.parts) == 2 else inside.parent.parts)


def rooms_by_module() -> dict[str, str]:
    dotted = {".".join(path.relative_to(ROOT).with_suffix("").parts): room(path) for path in CORE}
    return {module.removesuffix(".__init__"): home for module, home in dotted.items()}


def imported_modules(path: Path, modules: Collection[str]) -> set[str]:
    """Return the modules of latbench that a file imports anywhere: in functions and for type checkers, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in modules else node.module for name in names}
    return found & set(modules)


def own_package(path: Path) -> str:
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_no_plugin(path: Path) -> None:
    assert not {name for name in imported(path) if name.startswith("latbench_")}


def test_no_room_imports_one_that_imports_it() -> None:
    rooms = rooms_by_module()
    graph: dict[str, set[str]] = {}
    for path in CORE:
        # The package itself and its command line only hand on what the rooms hold.
        if room(path) not in ("latbench.__init__", "latbench.__main__"):
            others = {rooms[module] for module in imported_modules(path, rooms.keys() - {"latbench"})}
            graph.setdefault(room(path), set()).update(others - {room(path)})
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(f"rooms that import each other: {' <- '.join(error.args[1])}") from None


def test_the_top_of_the_core_holds_contracts_alone() -> None:
    top = [path.name for path in (ROOT / "latbench").iterdir() if path.suffix == ".py"]
    assert len(top) <= MOST_CONTRACTS, sorted(top)


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


def test_a_name_is_guessed_in_one_home() -> None:
    assert users(lambda path: "difflib" in imported(path)) == ["latbench/errors.py"]
    assert users(lambda path: any("did you mean" in text for text in texts(path))) == ["latbench/errors.py"]


def test_the_first_line_of_an_error_is_taken_in_one_home() -> None:
    cut = re.compile(r"str\((error|raised|reason)\).*(partition|split|splitlines)")
    assert users(lambda path: any(map(cut.match, called(path)))) == []


def test_a_file_is_replaced_in_one_home() -> None:
    ours = {"os.fsync", "os.replace", "os.rename", "partial.replace", "tempfile.NamedTemporaryFile"}
    assert users(lambda path: bool(called(path) & ours)) == ["latbench/records/writing.py"]
    assert users(lambda path: any(".partial" in text for text in texts(path))) == ["latbench/records/writing.py"]


def test_nothing_reads_or_writes_pickle() -> None:
    for path in [*CORE, *PLUGINS]:
        assert not imported(path) & {"pickle", "joblib", "dill", "cloudpickle", "shelve"}, path

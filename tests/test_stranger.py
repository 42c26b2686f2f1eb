"""A stranger's package: installed by pip beside latbench, it registers and passes the contract like our own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "latbench-flops"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    target = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(EXAMPLE)]
    subprocess.run(command, check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def test_it_is_listed_with_its_package(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "latbench", "backends", "--json"]
    listed = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    (mine,) = [row for row in listed if row["name"] == "flops"]
    assert (mine["package"], mine["available"]) == ("latbench-flops", True)


def test_it_passes_the_contract(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE)]
    run = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) == 13, run.stdout
    assert "skipped" not in run.stdout


def test_it_can_be_profiled(environment: dict[str, str], tmp_path: Path) -> None:
    space = ["--space", "nasbench201", "-S", "cells=1", "-S", "channels=4", "-S", "image=8"]
    command = [sys.executable, "-m", "latbench", "profile", *space, "--backend", "flops", "--samples", "3", "--json"]
    run = subprocess.run(
        [*command, "--store", str(tmp_path / "a.db")], env=environment, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["architectures"] == 3


def test_the_backend_of_the_readme_passes_the_contract(tmp_path: Path) -> None:
    text = (EXAMPLE.parent.parent / "README.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class SleepBackend" in block)
    (tmp_path / "latbench_sleep.py").write_text(code)
    suite = 'class TestSleep(BackendSuite):\n    backend = "latbench_sleep:SleepBackend"\n'
    (tmp_path / "test_sleep.py").write_text(f"from latbench.testing import BackendSuite\n\n\n{suite}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_sleep.py"]
    path = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(command, cwd=tmp_path, env=path, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout

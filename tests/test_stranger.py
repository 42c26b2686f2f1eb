"""A stranger's package: installed by pip beside latbench, it registers and passes the contract like our own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
EXAMPLE = EXAMPLES / "latbench-flops"
SPACE = EXAMPLES / "latbench-mobilenet"
LOSS = """
import torch, latbench
predictor = latbench.load_predictor("mlp.safetensors")
space, loss = predictor.space, latbench.LatencyLoss(predictor, target=1.0)
width = torch.tensor(80.0, requires_grad=True)
values = {d.name: d.options[0] for d in space.decisions} | {"resolution": width}
loss.predictor(space.expected(values)).backward()
alphas = [torch.zeros(shape, requires_grad=True) for shape in space.relaxation().shapes]
loss(alphas).backward()
print(float(width.grad), min(float(alpha.grad.abs().max()) for alpha in alphas))
"""
IMAGES = """
import torch
from latbench.search import Images

def few():
    x, y = torch.randn(16, 3, 128, 128), torch.arange(16) % 2
    return Images("few", x, y, x, y)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    target = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(EXAMPLE), str(SPACE)]
    subprocess.run(command, check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_it_is_listed_with_its_package(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "latbench", "plugins", "--json"]
    listed = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    (mine,) = [row for row in listed if row["name"] == "flops"]
    assert (mine["package"], mine["available"]) == ("latbench-flops", True)


@pytest.mark.parametrize(("example", "tests"), [(EXAMPLE, 13), (SPACE, 45)])
def test_it_passes_the_contract(environment: dict[str, str], example: Path, tests: int) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(example)]
    run = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) == tests, run.stdout
    assert "skipped" not in run.stdout


def test_it_can_be_profiled(environment: dict[str, str], tmp_path: Path) -> None:
    space = ["--space", "nasbench201", "-S", "cells=1", "-S", "channels=4", "-S", "image=8"]
    command = [sys.executable, "-m", "latbench", "profile", *space, "--backend", "flops", "--samples", "3", "--json"]
    run = subprocess.run(
        [*command, "--store", str(tmp_path / "a.db")], env=environment, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["architectures"] == 3


def test_a_space_is_profiled_fitted_given_to_a_loss_and_searched(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "images.py").write_text(IMAGES)
    space = ["--space", "mobilenet", "-S", "width=0.25", "-S", "activation=ReLU", "--backend", "flops"]
    for command in (
        ["-m", "latbench", "profile", *space, "--samples", "60", "--store", "a.db", "--json"],
        ["-m", "latbench", "fit", "a.db", "--predictor", "mlp", "-P", "steps=50", "--out", "mlp.safetensors"],
        ["-c", LOSS],
        [
            *(
                "-m",
                "latbench",
                "search",
                "mlp.safetensors",
                "--strategy",
                "random",
                "-P",
                "samples=8",
                "-P",
                "trained=1",
            ),
            *("--data", "images:few", "--epochs", "1", "--train-epochs", "1", "--batch-size", "8"),
            *("--targets", "none,80%", "--out", "found", "--json"),
        ],
    ):
        run = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        if command[1] == LOSS:
            slope, smallest = map(float, run.stdout.split())
    assert slope != 0
    # Every decision has a share in the loss.
    assert smallest > 0
    free, steered = json.loads(run.stdout)["rows"]
    assert steered["predicted"] <= steered["asked"] < free["predicted"]
    assert 0 < steered["measured"] < free["measured"]


def test_the_space_of_the_readme_has_at_most_40_lines() -> None:
    _, _, space = (SPACE / "latbench_mobilenet.py").read_text().partition("@dataclass")
    assert len([line for line in space.splitlines() if line.strip()]) <= 40

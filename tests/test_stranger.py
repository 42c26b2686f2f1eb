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

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "latbench-frugal"
version = "0.1.0"

[project.entry-points."latbench.strategies"]
frugal = "latbench_frugal:Frugal"

[project.entry-points."latbench.tasks"]
brightness = "latbench_frugal:Brightness"

[tool.hatch.build.targets.wheel]
include = ["latbench_frugal.py"]
"""
FRUGAL = """
import copy
import torch
from latbench.strategy import Candidate, Record, ignore_step
from latbench.task import Batch, Metric


class Frugal:
    name = "frugal"

    def __init__(self, *, samples=20):
        self.samples = samples

    def search(self, problem, *, folder=None, on_step=ignore_step):
        found = [each for each in problem.space.sample(self.samples, seed=problem.seed) if not problem.missed(each)]
        history = tuple(Record(number=n, architecture=str(each)) for n, each in enumerate(found))
        on_step(self.samples, self.samples)
        return [Candidate(each, None, history) for each in found]


class Brightness:
    name, metric = "brightness", Metric("negative error", ".3f")

    def for_inputs(self, inputs):
        fitted = copy.copy(self)
        fitted.shape = tuple(inputs[0].shape[1:])
        return fitted

    def batches(self, part, size):
        numbers = {"train": range(32), "first": range(16), "second": range(16, 32), "test": range(32, 48)}[part]
        images = torch.stack([torch.full(self.shape, n % 16 / 8 - 1) for n in numbers])
        order = torch.arange(len(images)) if part == "test" else torch.randperm(len(images))
        for chosen in order.split(size):
            yield Batch((images[chosen],), images[chosen].flatten(1).mean(1))

    def loss(self, outputs, batch):
        return torch.nn.functional.mse_loss(outputs[:, 0], batch.labels)

    def score(self, module, part="test"):
        (batch,) = self.batches(part, 1000)
        with torch.no_grad():
            return -float(self.loss(module.eval()(*batch.inputs), batch))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    target, frugal = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("frugal")
    (frugal / "pyproject.toml").write_text(PROJECT)
    (frugal / "latbench_frugal.py").write_text(FRUGAL)
    packages = [str(EXAMPLE), str(SPACE), str(frugal)]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), *packages]
    subprocess.run(command, check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_they_are_listed_with_their_packages(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "latbench", "plugins", "--json"]
    listed = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    packages = {row["name"]: (row["package"], row["available"]) for row in listed}
    assert packages["flops"] == ("latbench-flops", True)
    assert packages["frugal"] == packages["brightness"] == ("latbench-frugal", True)


@pytest.mark.parametrize(("example", "tests"), [(EXAMPLE, 13), (SPACE, 46)])
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


def test_a_strategy_and_a_task_search_together(environment: dict[str, str], tmp_path: Path) -> None:
    space = ["--space", "nasbench201", "-S", "cells=1", "-S", "channels=4", "-S", "image=8", "--backend", "flops"]
    for command in (
        ["profile", *space, "--samples", "40", "--store", "a.db", "--json"],
        ["fit", "a.db", "--predictor", "ridge", "--out", "ridge.safetensors"],
        [
            *("search", "ridge.safetensors", "--strategy", "frugal", "-P", "samples=60", "--task", "brightness"),
            *(
                "--targets",
                "none,80%",
                "--train-epochs",
                "4",
                "--batch-size",
                "8",
                "--out",
                "found",
                "--no-plots",
                "--json",
            ),
        ],
    ):
        run = subprocess.run(
            [sys.executable, "-m", "latbench", *command],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
    _, row = json.loads(run.stdout)["rows"]
    assert row["predicted"] <= row["asked"]
    assert row["measured"] > 0
    assert -1 < row["accuracy"] < 0  # guessing the middle errs by 1/3
    history = json.loads(next((tmp_path / "found").rglob("history.json")).read_text())
    assert 0 < len(history) < 60


def test_the_space_of_the_readme_has_at_most_40_lines() -> None:
    _, _, space = (SPACE / "latbench_mobilenet.py").read_text().partition("@dataclass")
    assert len([line for line in space.splitlines() if line.strip()]) <= 40

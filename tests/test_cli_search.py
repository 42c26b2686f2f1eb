"""``latbench search`` on a space of a stranger: no cells, no supernet, a resolution to decide."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from latbench.spaces.choices import Choice, Choices, ChoiceSpace, Ordinal
from tests.test_cli import call, document

NULL = ["--backend", "latbench.testing:NullBackend", "--verify", "none"]
RANDOM = ["--strategy", "random", "-P", "trained=2", "-P", "samples=8", "--epochs", 1, "--train-epochs", 1]
IMAGES = ["--data", "tests.test_cli_search:few_images"]


@dataclass(frozen=True)
class Widths(ChoiceSpace):
    """One convolution, its width and kernel, at a resolution."""

    name: ClassVar[str] = "widths"
    decisions = (Ordinal("resolution", (8, 16)), Ordinal("width", (4, 8, 16)), Choice("kernel", (1, 3)))

    def build(self, architecture: Choices) -> nn.Module:
        width, kernel = int(architecture["width"]), int(architecture["kernel"])
        body = nn.Sequential(nn.Conv2d(3, width, kernel), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*body, nn.Linear(width, 2))


def few_images() -> Any:
    from latbench.search import Images

    x = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Images("few", x, torch.arange(32) % 2, x, torch.arange(32) % 2)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    space = ["--space", "tests.test_cli_search:Widths"]
    assert call("profile", *space, *NULL, "--samples", 12, "--store", folder / "a.db").exit_code == 0
    path = folder / "ridge.safetensors"
    result = call("fit", folder / "a.db", "--predictor", "ridge", "--out", path)
    assert result.exit_code == 0, result.output
    return path


def test_what_cannot_be_drawn_is_left_out_with_a_note(predictor: Path, tmp_path: Path) -> None:
    result = call("search", predictor, *IMAGES, *RANDOM, "--targets", "none,99%", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "drew search.png; space 'widths' has no cells to draw" in result.stdout
    assert {"final.json", "search.png", "target-none"} <= {path.name for path in tmp_path.iterdir()}
    assert not list(tmp_path.glob("cells-*"))
    plain, steered = json.loads((tmp_path / "final.json").read_text())
    assert steered["predicted"] <= steered["asked"] < plain["predicted"]
    assert "accuracy" in result.stdout
    assert re.search(r"\d\.\d%", result.stdout)


def test_a_search_continues_and_repeats_nothing(predictor: Path, tmp_path: Path) -> None:
    arguments = ["search", predictor, *IMAGES, *RANDOM, "--targets", "none", "--no-measure", "--no-plots"]
    first = document(*arguments, "--out", tmp_path)
    before = (tmp_path / "target-none" / "tried.json").stat().st_mtime_ns
    assert document(*arguments, "--out", tmp_path) == first
    assert (tmp_path / "target-none" / "tried.json").stat().st_mtime_ns == before


def test_notes_go_beside_the_document(predictor: Path, tmp_path: Path) -> None:
    result = call(
        "search", predictor, *IMAGES, *RANDOM, "--targets", "0.08", "--no-measure", "--out", tmp_path, "--json"
    )
    assert np.isfinite(json.loads(result.stdout)["rows"][0]["predicted"])
    assert "note: the target 0.08 ms is more than any of them takes" in result.stderr


MISTAKES = [
    (["--strategy", "darts"], r"space 'widths' has no supernet\(\): use strategy .*'random'"),
    (["--strategy", "drats"], "no strategy named 'drats': did you mean 'darts'"),
    ([*RANDOM, "--alpha-lr", "0.1"], "strategy 'random' has no keyword 'alpha_lr'"),
    ([*RANDOM, "-P", "smaples=3"], "did you mean 'samples'"),
    ([*RANDOM, "-P", "samples"], "is not key=value"),
    ([*RANDOM, "--task", "clasification"], "did you mean 'classification'"),
    ([*RANDOM, "--data", "cifar"], "no data set named 'cifar'"),
    ([*RANDOM, "--targets", "1e-9"], r"1e-09 ms is too little for any of them: .* ask for 0\.\d+ to"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[message[:20] for _, message in MISTAKES])
def test_a_mistake_is_explained_before_the_search(
    arguments: list[object], message: str, predictor: Path, tmp_path: Path
) -> None:
    data = [] if "--data" in arguments else IMAGES
    result = call("search", predictor, *data, *arguments, "--no-measure", "--no-plots", "--out", tmp_path)
    assert result.exit_code == 2, result.output
    assert re.search(message, re.sub(r"\s+", " ", result.stderr))
    assert not (tmp_path / "final.json").exists()

"""The pages of the README run as they stand.

A page is a heading with Python under it. Where it also registers a plug-in, what comes before the ``toml`` block is the
plug-in's module and what comes after it the test file of a stranger's package; elsewhere its blocks run one after the
other, with the names in `PREPARED` there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import latbench
from latbench.testing.additive_profile import additive_profile

README = (Path(__file__).parent.parent / "README.md").read_text()
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(python|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)

Names = dict[str, Any]

BLOCKS = {heading: _BLOCK.findall(text) for heading, text in _SECTION.findall(README)}
PAGES = {heading: blocks for heading, blocks in BLOCKS.items() if "python" in dict(blocks)}
"""The kind and the text of each block, by heading."""


def loop_of_a_search() -> Names:
    """Write ``mlp.safetensors`` and return what a search loop has by the time that it computes its loss."""
    latbench.save_predictor("mlp.safetensors", latbench.fit(additive_profile(20), "lookup"))
    alphas = [torch.zeros(6, 5, requires_grad=True)]
    return {
        "latbench": latbench,
        "PRIMITIVES": ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none"),
        "model": SimpleNamespace(alphas=lambda: alphas),
        "criterion": torch.nn.CrossEntropyLoss(),
        "logits": torch.zeros(2, 10, requires_grad=True),
        "y": torch.tensor([0, 1]),
    }


def loss_moves_the_alphas(names: Names) -> None:
    (gradient,) = torch.autograd.grad(names["loss"], names["model"].alphas())
    assert names["loss"] > 0
    assert gradient.abs().sum() > 0


PREPARED: dict[str, tuple[Callable[[], Names], Callable[[Names], None]]] = {
    "Three lines in your own search loop": (loop_of_a_search, loss_moves_the_alphas)
}
"""What must be there before a page runs, and what must be true of its names afterwards."""


def registers(heading: str) -> bool:
    return any(kind == "toml" for kind, _ in PAGES[heading])


def test_the_readme_has_the_pages_that_are_prepared() -> None:
    assert PREPARED.keys() <= {heading for heading in PAGES if not registers(heading)}
    assert any(map(registers, PAGES))


@pytest.mark.parametrize("heading", [heading for heading in PAGES if not registers(heading)])
def test_a_page_runs_as_it_stands(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare, check = PREPARED.get(heading, (dict, lambda names: None))
    names = prepare()
    for kind, code in PAGES[heading]:
        assert kind == "python"
        exec(compile(code, f"README.md, {heading}", "exec"), names)  # noqa: S102 - it is our own page
    check(names)


@pytest.mark.parametrize("heading", list(filter(registers, PAGES)))
def test_the_plugin_of_a_page_registers_and_passes_its_contract(heading: str, tmp_path: Path) -> None:
    kinds = [kind for kind, _ in PAGES[heading]]
    toml = kinds.index("toml")
    codes = [code for _, code in PAGES[heading]]
    groups = tomllib.loads(codes[toml])["project"]["entry-points"]
    (module,) = {value.partition(":")[0] for points in groups.values() for value in points.values()}
    (tmp_path / f"{module}.py").write_text("\n".join(codes[:toml]))
    (tmp_path / "test_page.py").write_text("\n".join(codes[toml + 1 :]))
    package = tmp_path / "a_page-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: a-page\nVersion: 1\n")
    for group, points in groups.items():
        with (package / "entry_points.txt").open("a") as file:
            file.write("\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""]))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout

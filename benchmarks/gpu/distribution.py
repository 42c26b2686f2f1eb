"""Register the checkout's plug-ins without installing it: write what an installed package keeps beside its code.

``python3 -m benchmarks.gpu.distribution FOLDER`` writes it; with FOLDER, the checkout, backends/ and predictors/ on
PYTHONPATH, entry points are found as if latbench were installed. Needs the standard library alone.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def write_distribution(folder: Path) -> Path:
    """Write the metadata and the entry points that pyproject.toml declares, and return where."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    information = folder / f"{project['name']}-{project['version']}.dist-info"
    information.mkdir(parents=True, exist_ok=True)
    extras = "".join(f"Provides-Extra: {extra}\n" for extra in project["optional-dependencies"])
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{extras}"
    )
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    (information / "entry_points.txt").write_text(
        "\n".join(
            f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()
        )
    )
    return information


if __name__ == "__main__":
    write_distribution(Path(sys.argv[1]))

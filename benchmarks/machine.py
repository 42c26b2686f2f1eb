"""The first lines of every benchmark: what it ran on."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import psutil

from latbench.devices.host import cpu_name

PACKAGES = ("latbench", "torch", "onnxruntime", "tensorrt", "tensorrt-rtx-cu13", "lightgbm", "scikit-learn")


def header(title: str) -> str:
    """Return title, machine, versions, load and date as Markdown."""
    versions = ", ".join(f"{package} {found}" for package in PACKAGES if (found := _version(package)))
    return (
        f"## {title}\n\n{cpu_name()}, {psutil.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"load {psutil.getloadavg()[0]:.2f}; Python {platform.python_version()}, {versions}; "
        f"{datetime.now(UTC):%Y-%m-%d}\n"
    )


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

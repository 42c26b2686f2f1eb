"""``latbench measure`` of several models under several settings: one table in four forms, and a file that compares."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner, Result

from latbench import cli
from latbench.backend import Device
from latbench.cli import progress
from latbench.errors import CompileError
from latbench.measure.one_model import table
from latbench.measure.one_model.inspection import Inspection
from latbench.measure.one_model.isolated import measure_sources
from latbench.measure.one_model.record import ModelRecord, Refusal, read_records
from latbench.measure.one_model.results import Results
from latbench.measure.one_model.sessions import measure_model
from latbench.measure.settings import Settings
from latbench.records.measurement import Conditions, Measurement
from latbench.testing import NullBackend
from tests.test_measure_models import onnx_file

NULL = "latbench.testing:NullBackend"
HERE = "tests.test_measure_many"
SHORT = Settings(min_rounds=4, max_rounds=4, max_seconds=0.2)


def narrow() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def broken() -> nn.Module:
    raise ValueError("no network")


def call(*arguments: object, command: str = "measure") -> Result:
    return CliRunner().invoke(cli.app, [command, *map(str, arguments)])


def record(
    subject: str = "net",
    value: float = 1.0,
    *,
    clock: str = "wall",
    inspection: Inspection | None = None,
    batch: int = 1,
) -> ModelRecord:
    conditions = Conditions(
        "latency", "ms", clock, "warm", "cpu", Device("chip", "cpu"), "fp32", threads=1, batch=batch
    )
    measured = Measurement(subject, "model", value, value * 0.99, value * 1.01, flags=("unstable",))
    return ModelRecord({"x": "1x3:float32"}, conditions, measured, inspection or Inspection({"p50": 2.0}, 9))


def test_every_model_is_measured_in_every_batch_with_every_number_of_threads(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    shape = ("--input", "x:1x3x8x8", "--backend", NULL)
    asked = (f"{HERE}:narrow", f"{HERE}:broken", *shape, "--batch", "1,4", "--threads", "1,2")
    result = call(*asked, "--out", path, "--format", "csv")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    settings = [(name, batch, threads) for name in ("narrow", "broken") for batch in "14" for threads in "12"]
    assert [(row["model"].partition(":")[2], row["batch"], row["threads"]) for row in rows] == settings
    assert [bool(row["latency_ms"]) for row in rows] == [True] * 4 + [False] * 4
    assert "ValueError: no network" in rows[-1]["error"]
    found = [(m.subject, m.conditions.batch, m.conditions.threads) for m in read_records(path)]
    assert len(set(found)) == 4
    compared = call(path, path, "--json", command="compare-runs")
    assert compared.exit_code == 0, compared.output
    told = [(row["subject"], row["batch"], row["threads"]) for row in json.loads(compared.stdout)["rows"]]
    assert told == found
    assert f"{HERE}:narrow, batch 4, threads 2" in call(path, path, command="compare-runs").stdout


def test_files_of_one_name_are_filed_under_their_paths(tmp_path: Path) -> None:
    paths = [str(tmp_path / folder / "net.onnx") for folder in "ab"]
    for path in paths:
        Path(path).parent.mkdir()
        onnx_file(Path(path))
    damaged = tmp_path / "damaged.onnx"
    damaged.write_text("no graph")
    (refused, measured) = measure_sources([str(damaged), paths[0]], [NULL], settings=SHORT).results
    assert isinstance(refused, Refusal)
    assert isinstance(measured, ModelRecord)
    assert (refused.model, measured.subject) == ("damaged.onnx", "net.onnx")
    told: list[str] = []
    kept: list[int] = []
    results = measure_sources(
        *(paths, [NULL]),
        settings=SHORT,
        on_progress=told.append,
        on_result=lambda so_far: kept.append(len(so_far.records)),
    )
    assert kept == [1, 2]
    assert [each.subject for each in results.records] == paths
    assert [text.rpartition(" (")[2] for text in told] == ["1 of 2)", "2 of 2)"]
    (alone,) = measure_sources(paths[:1], [NULL], settings=SHORT).records
    assert alone.subject == "net.onnx"


@pytest.mark.parametrize("flag", ["--batch", "--threads"])
@pytest.mark.parametrize("text", ["0", "1,two", ",", "-1"])
def test_numbers_are_read_or_refused(flag: str, text: str) -> None:
    result = call(f"{HERE}:narrow", f"{flag}={text}", "--backend", NULL)
    assert result.exit_code == 2
    assert f"{flag} {text!r} is not a list of positive numbers: write for example {flag} 1,2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", ","], "--backend ',' names nothing"),
        (["--json", "--format", "csv"], "--json and --format csv differ"),
    ],
)
def test_what_contradicts_itself_is_refused_at_once(arguments: list[str], message: str) -> None:
    result = call(f"{HERE}:narrow", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_one_reason_is_told_once() -> None:
    result = call(f"{HERE}:broken", "--backend", f"{NULL},cpu", "--format", "json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["message"].count("no network") == 1


# The table


def test_what_all_rows_share_is_told_once_and_what_none_has_is_left_out() -> None:
    cells = table.cells([record("a"), record("b")])
    assert cells.columns == ("model", "backend", "ms", "95% interval", "p50", "inputs/s", "flags")
    assert cells.title == "x 1x3:float32, batch 1, threads 1, fp32, clock wall"
    cells = table.cells([record("a"), Refusal("gpu", CompileError("too large"), "a", 1, 1)])
    assert cells.title.startswith("a, x 1x3:float32, batch 1")
    assert cells.rows[1] == ("gpu", *["-"] * (len(cells.columns) - 1))
    assert "gpu, a, batch 1, threads 1: too large" in cells.remarks
    refused = [Refusal(name, CompileError("too large"), "a", 1, 1) for name in ("gpu", "npu")]
    assert "gpu, npu, a, batch 1, threads 1: too large" in table.cells([record("a"), *refused]).remarks


def test_sizes_and_walls_stand_beside_the_clock_of_the_device() -> None:
    told = Inspection(
        {"p50": 2.0},
        9,
        memory_mib=1.0,
        memory_of="process",
        wall_percentiles={"p50": 4.0},
        peak_memory_mib=3.0,
        parameters=25_557_032,
        weights_mib=97.49,
        macs=4_089_184_256,
    )
    cells = table.cells([record(clock="thread_cpu", inspection=told)])
    shown = dict(zip(cells.columns, cells.rows[0], strict=True))
    assert (shown["p50"], shown["wall p50"], shown["inputs/s"]) == ("2.000", "4.000", "250.0")
    assert (shown["memory MiB"], shown["peak MiB"]) == ("1.0*", "3.0")
    assert "25.56 M parameters, 4.089 G multiply-accumulates, 97.5 MiB of weights" in cells.title
    assert any("growth of the process" in remark for remark in cells.remarks)
    assert "wall p50" not in table.cells([record(clock="wall", inspection=told)]).columns


def test_markup_of_names_is_text_in_every_form() -> None:
    results = Results((record("<b>|*a*"), record("c")))
    assert "&lt;b&gt;|*a*" in results._repr_html_()
    assert "| <b>\\|\\*a\\* |" in results.to_markdown()
    assert next(csv.DictReader(io.StringIO(results.to_csv())))["model"] == "<b>|*a*"


def test_a_frame_has_a_row_for_each_result_and_numbers_in_its_columns() -> None:
    frame = Results((record("a", 1.0), Refusal("gpu", CompileError("too large"), "b"))).to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.latency_ms.tolist()[0] == 1.0
    assert frame.latency_ms.isna().tolist() == [False, True]
    assert frame.error.tolist()[1] == "too large"
    assert list(record().to_frame().columns) == list(frame.columns)


def test_without_pandas_a_frame_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Exception, match="pip install pandas"):
        record().to_frame()


# Progress


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 0.01)
    result = call(f"{HERE}:narrow", "--input", "x:1x3x8x8", "--backend", NULL, "--json")
    assert json.loads(result.stdout)["records"]
    lines = [line for line in result.stderr.splitlines() if line.startswith("measuring ")]
    assert lines
    assert all(line.startswith(f"measuring {HERE}:narrow, threads 1, ") for line in lines)


def test_a_bar_in_a_log_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 0.01)
    file = Written()
    with progress.Bars(console=Console(file=file, width=80)) as bars:
        bars.add_task("measuring latency", total=40, completed=3, note="12 drift")
        assert file.told.wait(60)
    assert "measuring latency 3/40, " in file.getvalue()


class Written(io.StringIO):
    """A file that says when something has been written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        if "drift" in text:
            self.told.set()
        return count


class Handle:
    """What IPython gives for a display that changes."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, text: str) -> None:
        self.shown.append(text)


@pytest.mark.parametrize("kernel", [True, False])
def test_a_notebook_shows_where_a_call_stands(
    kernel: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = Handle()
    display = SimpleNamespace(Pretty=str, display=lambda text, display_id: handle)
    shell = SimpleNamespace(**{"kernel": object()} if kernel else {})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    caplog.set_level(logging.INFO, logger="latbench")
    measured = measure_model(narrow(), torch.ones(1, 3, 8, 8), backend=NullBackend(), settings=SHORT)
    told = handle.shown[:-1] if kernel else [each.message for each in caplog.records]
    assert told == [f"measuring Conv2d on null, session {number}" for number in range(1, len(told) + 1)]
    assert len(told) > 1
    assert (handle.shown[-1:], len(caplog.records)) == (([""], 0) if kernel else ([], len(told)))
    assert "Conv2d, " in measured._repr_html_()
    assert measured.to_frame().backend.tolist() == ["null"]

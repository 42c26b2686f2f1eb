"""What the command line prints: text as it is, one item a line in pipes, tables that fit a terminal, one document."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

import latbench
from latbench import plugins, profiling
from latbench.cli import COMMANDS, app, console
from latbench.profiling import Summary
from latbench.profiling.progress import Progress
from latbench.records.figures import figures
from latbench.records.noise_floor import NoiseFloor
from tests.test_cli import NULL, call, document

DARTS = ["--space", "darts", "-S", "cells=3", "-S", "channels=4", "-S", "image=8"]
SAMPLES = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "ü [bold]ñ :smile:.db"
    result = call("profile", *DARTS, *NULL, "--samples", SAMPLES, "--store", path)
    assert result.exit_code == 0, result.output
    assert str(path) in result.stdout
    return path


@pytest.fixture(scope="module")
def predictor(store: Path) -> Path:
    path = store.parent / "ridge.safetensors"
    assert call("fit", store, "--predictor", "ridge", "--out", path).exit_code == 0
    return path


@pytest.mark.parametrize("command", ["plugins", "backends"])
def test_the_plugins_of_every_kind_are_listed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status = plugins.PluginStatus("bad", "latbench", available=False, reason="pip install 'bad[needs]'\nor not")
    monkeypatch.setattr(plugins, "names", lambda kind: ["bad"])
    monkeypatch.setattr(plugins, "status", lambda kind, name: status)
    assert call(command).stdout.splitlines()[1:] == [
        f"bad      {kind.word:9}  no         latbench  pip install 'bad[needs]' or not" for kind in plugins.KINDS
    ]


def test_what_looks_like_markup_is_printed_as_it_is(store: Path, tmp_path: Path) -> None:
    table = tmp_path / "a[bold] :smile:.csv"
    assert f"rows to {table}\n" in call("export", store, table).stdout
    assert f"{store}: mean over 1" in call("compare", store, "--predictors", "ridge", "--seeds", 1).stdout
    assert "cannot read a[/b].onnx" in call("measure", "a[/b].onnx").stderr


def test_what_spaces_prints_is_what_predict_reads(predictor: Path, tmp_path: Path) -> None:
    drawn = call("spaces", *DARTS[1:], "--samples", 3)
    assert "darts(cells=3" in drawn.stderr
    assert "rows of the alphas: 0->2, 1->2, 0->3" in drawn.stderr
    assert "columns of the alphas: none, max_pool_3x3" in drawn.stderr
    alphas = document("spaces", *DARTS[1:])["alphas"]
    assert alphas["rows"][:3] == ["0->2", "1->2", "0->3"]
    assert alphas["columns"][:2] == ["none", "max_pool_3x3"]
    assert "of the alphas" not in call("spaces", "ofa").stderr
    listed = tmp_path / "architectures.txt"
    listed.write_text(drawn.stdout)
    predicted = call("predict", predictor, "--file", listed).stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in predicted] == drawn.stdout.splitlines()
    assert len(predicted) == 3
    assert all(float(line.split()[0]) > 0 for line in predicted)


def test_predict_counts_lines_as_an_editor_does(predictor: Path, tmp_path: Path) -> None:
    (good,) = document("spaces", *DARTS[1:], "--samples", 1)["samples"]
    listed = tmp_path / "architectures.txt"
    listed.write_bytes(f"\ufeff{good}\r\n\r\n{good}\x0c\r\nGenotype(\r\n".encode())
    result = call("predict", predictor, "--file", listed)
    assert result.exit_code == 2
    assert f"line 4 of {listed}:" in result.stderr


@pytest.mark.parametrize(
    ("data", "message"), [(None, "No such file"), ("", "Is a directory"), (b"\xff\xfe\x00", "not UTF-8 text")]
)
def test_predict_says_which_file_it_wants(
    predictor: Path, tmp_path: Path, data: bytes | str | None, message: str
) -> None:
    path = tmp_path / "architectures"
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif data is not None:
        path.mkdir()
    result = call("predict", predictor, "--file", path)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "one architecture a line" in result.stderr


SUBJECT = "Genotype(normal=[" + "('sep_conv_3x3', 0), " * 16
RUNS = (("subject", "backend", "A", "B", "B / A", "95% interval", "verdict"), "1.951 ms", "-0.8% to +1.2%")


def printed(
    monkeypatch: pytest.MonkeyPatch, width: int, columns: Sequence[str], rows: Sequence[Sequence[str]], **options: Any
) -> list[str]:
    file = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=file, width=width, markup=False, emoji=False, soft_wrap=True))
    console.print_table(columns, rows, **options)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "lines"), [(10_000, 4), (80, 5), (40, 16)])
def test_a_table_fits_the_terminal_and_cuts_no_number(monkeypatch: pytest.MonkeyPatch, width: int, lines: int) -> None:
    columns, value, interval = RUNS
    row = (SUBJECT, "onnxruntime", value, value, "+0.2%", interval, "SAME")
    shown = printed(monkeypatch, width, columns, [row, row], title="two [runs]")
    assert len(shown) <= lines
    assert max(map(cell_len, shown)) <= width
    text = "\n".join(shown)
    assert (text.count(value), text.count(interval), text.count("two [runs]")) == (4, 2, 1)
    assert text.count("…") == (2 if width < 100 else 0)
    assert not any(line != line.rstrip() for line in shown)


def test_a_narrow_terminal_leaves_out_what_may_be_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, row = ("backend", "ms", "wall p50", "wall p99", "flags"), ("onnxruntime", *["123456789"] * 4)
    spare = ("wall p99", "p90", "wall p50")
    for width, left_out in ((80, ""), (45, "wall p99"), (33, "wall p99, wall p50")):
        *_, last = shown = printed(monkeypatch, width, columns, [row], spare=spare)
        assert max(map(cell_len, shown[:2])) <= width
        assert last.rpartition("left out on this terminal: ")[2] == (left_out or last)
        assert len(shown) == (3 if left_out else 2)


def test_reasons_are_folded_and_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "install it with one of many words " * 8
    for width in (80, 30):
        shown = printed(monkeypatch, width, ("plug-in", "why not"), [("onnxruntime", reason)], numbers=False)
        assert " ".join(" ".join(shown).split()).count("install it with one of many words") == 8


def test_a_comparison_takes_any_profile_and_each_predictor_once(store: Path) -> None:
    said = document("compare", store, "--predictors", "ridge,, gbdt,ridge", "--seeds", 1)
    assert [row["predictor"] for row in said["rows"]] == ["constant", "ridge", "gbdt"]
    assert {row["train_size"] for row in said["rows"]} == {SAMPLES // 2}


@pytest.mark.parametrize(("name", "remedy"), [("a.foo", ".png"), ("a", ".png"), ("nowhere/a.png", "make it first")])
def test_where_a_figure_goes_is_known_before_the_work(tmp_path: Path, name: str, remedy: str) -> None:
    result = call("compare", tmp_path / "missing.db", "--plot", tmp_path / name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot draw" in result.stderr
    assert remedy in result.stderr


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg", "eps"])
def test_a_comparison_outlives_a_full_disk(store: Path, tmp_path: Path, suffix: str) -> None:
    plot = tmp_path / f"plot.{suffix}"
    plot.symlink_to("/dev/full")
    arguments = ["compare", store, "--predictors", "ridge", "--seeds", 1, "--plot", plot]
    said, told = call(*arguments, "--json"), call(*arguments)
    assert json.loads(said.stdout)["rows"]
    assert "noise floor" in told.stdout
    for result in (said, told):
        assert result.exit_code == 2
        assert f"error: cannot write {plot}: No space left on device" in result.stderr


@pytest.mark.parametrize("suffix", ["png", "PDF", "svg", "eps", "jpg"])
def test_a_comparison_is_drawn(store: Path, tmp_path: Path, suffix: str) -> None:
    plot = tmp_path / f"plot.{suffix}"
    curves = tmp_path / f"curves.{suffix}"
    arguments = ["--predictors", "ridge", "--seeds", 1, "--train", "4,8", "--plot", plot, "--curves", curves]
    assert call("compare", store, *arguments).exit_code == 0
    assert plot.stat().st_size > 1000
    assert curves.stat().st_size > 1000


MISUSES = [
    (["fit"], "Missing argument"),
    (["fitt"], "No such command 'fitt'"),
    (["--bogus"], "--bogus"),
    (["profile", "--samples", "many", "--store", "a.db"], "--samples"),
    (["profile", "--samples", "1", "--store", "a.db", "--seed", "-1"], "--seed"),
    (["profile", "--samples", "1", "--store", "a.db", "--option", "foo"], "--option foo=VALUE"),
    (["profile", "--samples", "1", "--store", "a.db", "--space-option", "=5"], "--space-option KEY=5"),
    *(
        (["profile", "--samples", "1", "--store", "a.db", flag, value], flag)
        for flag in ("--timeout", "--half-width")
        for value in ("0", "-1", "nan", "inf")
    ),
    (["measure", "net.onnx", "--timeout", "0"], "--timeout"),
    (["fit", "a.db", "--seed", "-1"], "--seed"),
    (["fit", "a.db", "--seed", str(2**32)], "--seed"),
    (["spaces", "darts", "--seed", "-1"], "--seed"),
    (["spaces", "darts", "--samples", "1000000000"], "--samples"),
    (["compare", "a.db", "--predictors", ","], "names no predictor"),
]


@pytest.mark.parametrize(("arguments", "message"), MISUSES)
def test_a_misuse_is_one_line_and_one_document(arguments: list[str], message: str) -> None:
    told, said = call(*arguments), call(*arguments, "--json")
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert message in told.stderr
    error = json.loads(said.stdout)["error"]
    assert (said.exit_code, error["type"]) == (2, "UsageError")
    assert told.stderr == f"error: {error['message']}\n"


def test_no_progress_is_drawn_of_a_mistake(tmp_path: Path) -> None:
    told = call("profile", "--backend", "cppu", "--samples", 1, "--store", tmp_path / "a.db")
    assert told.stderr == "error: no backend named 'cppu': did you mean 'cpu'?\n"


def test_an_interrupted_run_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def profile_space(*args: object, **kwargs: object) -> Summary:
        raise KeyboardInterrupt

    monkeypatch.setattr(profiling, "profile_space", profile_space)
    result = call("profile", *DARTS, *NULL, "--samples", 40, "--store", tmp_path / "a.db")
    assert result.exit_code == 130
    assert "stopped: what a store, a folder or a file holds is kept" in result.stderr


def test_what_is_left_is_what_the_store_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def profile_space(*args: object, **kwargs: object) -> Summary:
        return Summary(tmp_path / "a.db", Progress(3, 40), 40, 0, 40, 0, (), NoiseFloor(0))

    monkeypatch.setattr(profiling, "profile_space", profile_space)
    arguments = ["profile", *DARTS, *NULL, "--samples", 40, "--store", tmp_path / "a.db"]
    assert document(*arguments)["left"] == 0
    assert "are left" not in call(*arguments).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_reflows_paragraphs_and_keeps_examples(command: str) -> None:
    (run,) = (each.callback for each in app.registered_commands if each.name == command)
    prose, examples = (run.__doc__ or "").split("\b")
    shown = call(command, "--help").stdout
    assert all(f"  {line}\n" in shown for line in examples.replace("\n    ", "\n").split("\n")[1:] if line)
    said = shown.split("Examples:")[0].split("\n\n")[1:]
    for paragraph, written in zip(said, prose.split("\n\n"), strict=False):
        assert paragraph.split() == written.split()
        lines = paragraph.splitlines()
        assert all(len(line) + len(after.split()[0]) > 75 for line, after in pairwise(lines))


def test_no_argument_shows_the_commands() -> None:
    result = call()
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


def test_the_version_is_told() -> None:
    assert call("--version").stdout == f"latbench {latbench.__version__}\n"
    told = document("--version")
    assert told["latbench"] == latbench.__version__
    assert {"torch", "onnx"} <= told["packages"].keys()
    assert "ruff" not in told["packages"]


def test_a_command_is_asked_for_where_none_is_named() -> None:
    result = call("--json")
    assert result.exit_code == 2
    assert "no command is named" in json.loads(result.stdout)["error"]["message"]


@pytest.mark.parametrize("arguments", [[], ["measure"]])
def test_help_has_a_short_form(arguments: list[str]) -> None:
    assert call(*arguments, "-h").stdout == call(*arguments, "--help").stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("latbench compare-", "compare-runs"),
        ("latbench measure --timeo", "--timeout"),
        ("latbench profile --backend onnxr", "onnxruntime"),
        ("latbench profile --space nas", "nasbench201"),
    ],
)
def test_a_shell_completes_commands_options_and_plugins(words: str, completed: str) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_LATBENCH_COMPLETE": "complete_bash"}
    result = CliRunner().invoke(app, [], prog_name="latbench", env=asked)
    assert result.stdout.split() == [completed]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23456, "1.235"),
        (0.0000123456, "0.00001235"),
        (123456.7, "123457"),
        (0.0, "0"),
        (-0.5, "-0.5000"),
        (None, "-"),
    ],
)
def test_no_small_number_is_printed_as_zero(value: float | None, text: str) -> None:
    assert figures(value) == text


def test_errors_are_at_hand_after_a_plain_import() -> None:
    subprocess.run([sys.executable, "-c", "import latbench; latbench.errors.UsageError"], check=True)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_a_full_disk_is_told_of(argument: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "latbench", argument],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


def test_more_samples_than_a_space_has_are_told(tmp_path: Path) -> None:
    small = ("--space", "nasbench201", "-S", "cells=1", "-S", "channels=4", "-S", "image=8")
    result = call("profile", *small, *NULL, "--samples", 7000, "--budget", 0, "--store", tmp_path / "a.db")
    assert result.exit_code == 0, result.output
    assert "7000 were asked for: the space has 4930 architectures that are not isomorphic" in result.stdout

"""What messages are made of: the remedy for an unknown name, and the first line of an error."""

from __future__ import annotations

import pytest

from latbench.errors import CompileError, UsageError, did_you_mean, first_line, reason


@pytest.mark.parametrize(
    ("name", "known", "remedy"),
    [
        ("cppu", ["cuda", "cpu"], "did you mean 'cpu'?"),
        ("zzz", ["cuda", "cpu"], "choose one of cuda, cpu"),
        ("zzz", ["cpu"], "there is only 'cpu'"),
        ("zzz", [], "there are none"),
        ("node", {"noise": 1, "seed": 2}, "did you mean 'noise'?"),
    ],
)
def test_an_unknown_name_has_a_remedy(name: str, known: list[str], remedy: str) -> None:
    assert did_you_mean(name, known) == remedy


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("out of luck\nand more"), "out of luck"),
        (RuntimeError("\n  \x1b[1;31mred\x1b[0m words \nmore"), "red words"),
        (ValueError(), "ValueError"),
        (ValueError("\n"), "ValueError"),
    ],
)
def test_the_first_line_of_an_error_has_no_colours(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_no_message_has_colours_whatever_it_quotes() -> None:
    red = "\x1b[1;31mred\x1b[0m"
    assert str(UsageError(f"it said {red}: give another")) == "it said red: give another"
    assert reason(RuntimeError(red)) == "RuntimeError: red"


def test_the_class_of_an_error_is_told_unless_it_is_ours() -> None:
    assert reason(UsageError("no such thing: give one")) == "no such thing: give one"
    assert reason(KeyError("a")) == "KeyError: 'a'"


def test_no_message_has_the_colours_of_a_terminal() -> None:
    error = CompileError("ONNX Runtime refuses net: \x1b[1;31m[E:onnxruntime]\x1b[m no such type")
    assert str(error) == "ONNX Runtime refuses net: [E:onnxruntime] no such type"

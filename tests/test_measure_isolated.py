"""What crashes or hangs while one model is measured costs its backend, never the others or the command."""

from __future__ import annotations

import os
import time
from typing import ClassVar, NoReturn

import pytest
from torch import nn
from typer.testing import CliRunner

from latbench import cli
from latbench.backend import CompileOptions
from latbench.errors import ModelError, WorkerDiedError
from latbench.measure.one_model.isolated import measure_source
from latbench.measure.one_model.record import ModelRecord, Refusal
from latbench.model import Model
from latbench.testing import NullBackend

HERE = "tests.test_measure_isolated"
NULL = "latbench.testing:NullBackend"
INPUT = ("x:1x2x8x8",)


class AbortingBackend(NullBackend):
    """Its native library aborts on every model."""

    name: ClassVar[str] = "aborting"

    def compile(self, model: Model, options: CompileOptions) -> NoReturn:
        os.abort()


class HangingBackend(NullBackend):
    """It never finishes compiling."""

    name: ClassVar[str] = "hanging"

    def compile(self, model: Model, options: CompileOptions) -> NoReturn:
        time.sleep(3600)
        raise AssertionError


def convolution() -> nn.Module:
    return nn.Conv2d(2, 2, 3)


def aborting_factory() -> nn.Module:
    os.abort()


def test_a_backend_that_aborts_is_refused_and_the_others_are_measured() -> None:
    result = measure_source(f"{HERE}:convolution", [f"{HERE}:AbortingBackend", NULL], inputs=INPUT)
    refusal, record = result.results
    assert isinstance(refusal, Refusal)
    assert isinstance(refusal.error, WorkerDiedError)
    assert "SIGABRT" in str(refusal.error)
    assert isinstance(record, ModelRecord)
    assert record.measurement.value > 0
    assert "measured alone" in result.notes[-1]


def test_a_backend_that_hangs_ends_at_the_timeout() -> None:
    (refusal,) = measure_source(f"{HERE}:convolution", [f"{HERE}:HangingBackend"], inputs=INPUT, timeout=10).results
    assert isinstance(refusal, Refusal)
    assert "--timeout" in str(refusal.error)


def test_a_model_that_aborts_while_it_is_opened_is_an_error_in_words() -> None:
    outcome = CliRunner().invoke(cli.app, ["measure", f"{HERE}:aborting_factory", "--backend", NULL])
    assert outcome.exit_code == 1
    assert "SIGABRT" in outcome.output
    assert "Traceback" not in outcome.output


def test_a_mistake_in_the_source_comes_back_as_it_was_raised() -> None:
    with pytest.raises(ModelError, match="no_such_factory"):
        measure_source(f"{HERE}:no_such_factory", [NULL], inputs=INPUT)

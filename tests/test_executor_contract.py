"""Executors keep one contract: this machine's, and another machine's over ssh."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from latbench.executor import Executor
from latbench.measure.workers.local import LocalExecutor
from latbench.measure.workers.ssh import SshExecutor
from latbench.testing import ExecutorSuite
from tests.board import HOST, FakeBoard, SshBoard, on_path, why_no_server
from tests.patience import PATIENCE_S


class TestLocal(ExecutorSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls) -> Iterator[Executor]:
        with LocalExecutor(PATIENCE_S) as executor:
            yield executor


class TestSsh(ExecutorSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
        board = FakeBoard(tmp_path_factory.mktemp("board"))
        with on_path(board.folder), SshExecutor(HOST, python=sys.executable, timeout=PATIENCE_S) as executor:
            yield executor


@pytest.mark.skipif(why_no_server() is not None, reason=str(why_no_server()))
class TestSshServer(ExecutorSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
        board = SshBoard(tmp_path_factory.mktemp("board"))
        with (
            on_path(board.folder),
            board.serving(),
            SshExecutor("board", python=str(board.python), timeout=PATIENCE_S) as executor,
        ):
            yield executor

"""Another machine over ssh: what is lost on the way is measured again; why there is no connection is said in words."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

import latbench
from latbench import cli
from latbench.errors import MeasurementError, PluginError, UsageError
from latbench.executor import Executor, Notify, PlaceLostError, SessionDiedError
from latbench.measure.workers import connection
from latbench.measure.workers.ssh import SshExecutor
from latbench.measure.workers.wire import MARK
from latbench.profiling import Summary, profile_space
from latbench.profiling.progress import Progress
from latbench.space import SearchSpace
from latbench.store import Store
from latbench.testing import Probe
from latbench.testing.executor_suite import places
from latbench.testing.probe import ProbeResult
from tests.board import HOST, FakeBoard, SshBoard, on_path, why_no_server
from tests.patience import PATIENCE_S
from tests.test_profiling import FAST, NULL, SPACE, counts, planned

AT_ONCE = (0.0, 0.0, 0.0)
SAMPLES = 30


@pytest.fixture
def board(tmp_path: Path) -> Iterator[FakeBoard]:
    board = FakeBoard(tmp_path)
    with on_path(tmp_path):
        yield board


def reached(python: str = sys.executable, *, delays_s: Sequence[float] = AT_ONCE) -> SshExecutor:
    return SshExecutor(HOST, python=python, timeout=PATIENCE_S, delays_s=delays_s)


def run(
    store: Path,
    executor: Executor,
    *,
    space: SearchSpace = SPACE,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    return profile_space(space, NULL, store, samples=SAMPLES, settings=FAST, executor=executor, on_progress=on_progress)


def dropping(drop: Callable[[], None], *, after: Sequence[int]) -> Callable[[Progress], None]:
    """Lose the connection when the results of so many sessions have come."""
    heard = 0

    def on_progress(progress: Progress) -> None:
        nonlocal heard
        heard += 1
        if heard in after:
            drop()

    return on_progress


def test_a_lost_connection_costs_what_was_in_flight(board: FakeBoard, tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    with reached() as executor:
        summary = run(store, executor, on_progress=dropping(board.drop, after=(1, 3, 4)))
    assert len(board.calls()) == 4
    assert counts(store) == planned(SAMPLES)
    assert (summary.architectures, summary.failures) == (SAMPLES, ())
    assert board.processes() == []


@pytest.mark.skipif(why_no_server() is not None, reason=str(why_no_server()))
def test_a_server_that_drops_a_connection_costs_what_was_in_flight(tmp_path: Path) -> None:
    board, store = SshBoard(tmp_path), tmp_path / "a.db"
    with (
        on_path(tmp_path),
        board.serving(),
        SshExecutor("board", python=str(board.python), timeout=PATIENCE_S, delays_s=AT_ONCE) as executor,
    ):
        summary = run(store, executor, on_progress=dropping(board.drop, after=(1, 3)))
    assert counts(store) == planned(SAMPLES)
    assert (summary.architectures, summary.failures) == (SAMPLES, ())


def test_a_machine_that_is_gone_ends_the_run_which_continues_another_time(board: FakeBoard, tmp_path: Path) -> None:
    store = tmp_path / "a.db"

    def unplug() -> None:
        board.refuse("ssh: connect to host board port 22: No route to host")
        board.drop()

    with reached() as executor:
        with pytest.raises(MeasurementError, match=r"user@board cannot be reached any more .*No route to host"):
            run(store, executor, on_progress=dropping(unplug, after=(2,)))
        with pytest.raises(PlaceLostError):
            executor.places(places())
    before = counts(store)
    assert before
    board.allow()
    with reached() as executor:
        assert run(store, executor).failures == ()
    assert before.items() <= counts(store).items()
    assert counts(store) == planned(SAMPLES)


def test_a_session_that_takes_the_machine_down_every_time_has_died(board: FakeBoard) -> None:
    with reached() as executor:
        (place,) = executor.places(places())
        with pytest.raises(SessionDiedError, match="was lost 3 times while it ran"):
            executor.start(Unplugs(), place).result()
        assert executor.start(Probe(), place).result().pid


@dataclasses.dataclass(frozen=True, slots=True)
class Unplugs(Probe):
    """It takes the far end of the connection down."""

    def run(self, notify: Notify) -> ProbeResult:
        far_end = psutil.Process(os.getppid()).ppid()
        os.kill(far_end, signal.SIGKILL)
        return Probe.run(self, notify)

    @classmethod
    def from_json(cls, text: str) -> Unplugs:
        return cls(**json.loads(text))


def test_another_machine_under_the_same_name_is_refused(board: FakeBoard) -> None:
    python = board.python(
        f'test -e {board.folder}/swapped && export LATBENCH_NULL_UNITS="left right"\nexec "{sys.executable}" "$@"'
    )
    with reached(python) as executor:
        (place,) = executor.places(places())
        (board.folder / "swapped").touch()
        future = executor.start(Unplugs(), place)
        with pytest.raises(PlaceLostError, match="user@board is another machine now"):
            future.result()


def test_nothing_is_left_there_when_the_run_ends(board: FakeBoard) -> None:
    with reached() as executor:
        (place,) = executor.places(places())
        executor.start(Probe(seconds=600), place)
        (far_end,) = board.processes()
        family = [far_end, *far_end.children(recursive=True)]
        assert len(family) > 1
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("user@board: Permission denied (publickey,password).", "'ssh-copy-id user@board'"),
        ("Host key verification failed.", "run 'ssh user@board' once and accept its key"),
        ("ssh: Could not resolve hostname board: Name or service not known", "~/.ssh/config"),
        ("ssh: connect to host board port 22: Connection refused", "check that 'ssh user@board' works"),
        ("", "ssh does not say why"),
    ],
)
def test_what_ssh_says_is_told_with_a_remedy(board: FakeBoard, said: str, message: str) -> None:
    board.refuse(f"Warning: Permanently added 'board' to the list of known hosts.\n{said}" if said else "")
    with pytest.raises(UsageError) as refused, reached():
        pass
    assert message in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.skipif(why_no_server() is not None, reason=str(why_no_server()))
def test_a_key_that_the_server_does_not_know_is_refused_in_words(tmp_path: Path) -> None:
    board = SshBoard(tmp_path)
    board.let_in("stranger")
    with on_path(tmp_path), board.serving(), pytest.raises(UsageError, match=r"Permission denied .*: give it your key"):
        SshExecutor("board", python=str(board.python)).__enter__()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            f'echo \'{MARK}{{"latbench": "0.0.1"}}\'; cat',
            "has latbench 0.0.1, and this machine {ours}: install the same",
        ),
        ('echo "$0: No module named latbench" >&2; exit 1', "has no latbench: pip install 'latbench=={ours}'"),
        ('echo "$0: No module named latbench.measure.workers.remote" >&2; exit 1', "another version of latbench"),
        ("echo 'This account is currently not available.'; exit 1", "currently not available.): check that 'ssh"),
        ("echo 'ImportError: libtorch.so' >&2; exit 1", "does not start on user@board (ImportError: libtorch.so)"),
        ("exit 127", "name its Python with --host-python"),
    ],
)
def test_a_machine_without_this_latbench_is_refused_in_words(board: FakeBoard, lines: str, message: str) -> None:
    with pytest.raises(UsageError) as refused, reached(board.python(lines)):
        pass
    assert message.format(ours=latbench.__version__) in str(refused.value)


def test_a_machine_that_says_nothing_is_given_up(board: FakeBoard) -> None:
    silent = SshExecutor(HOST, python=board.python("exec sleep 600"), timeout=0.5)
    with pytest.raises(UsageError, match=r"user@board does not answer: check that it is up, or give --timeout"), silent:
        pass


@pytest.mark.parametrize("text", ["Welcome to board!\nmaintenance at 5\n", "no newline at the end", f"{MARK[:-1]}\n"])
def test_what_a_login_shell_prints_is_no_answer(board: FakeBoard, text: str) -> None:
    board.print(text)
    with reached() as executor:
        (place,) = executor.places(places())
        assert executor.start(Probe(), place).result().pid


DAMAGED = """
import os, sys
hello, once = sys.argv[1:]
os.unlink(once)
print(f"@latbench {hello}")
print('@latbench {"id": 0, "resu', flush=True)
sys.stdin.read()
"""


def test_a_damaged_answer_costs_its_connection(board: FakeBoard) -> None:
    once, script = board.folder / "once", board.folder / "damaged.py"
    once.touch()
    script.write_text(DAMAGED)
    hello = json.dumps({"latbench": latbench.__version__})
    python = board.python(
        f"if [ -e {once} ]; then exec '{sys.executable}' {script} '{hello}' {once}; fi\nexec '{sys.executable}' \"$@\""
    )
    with reached(python) as executor:
        assert executor.places(places())
    assert len(board.calls()) == 2


def test_what_is_not_there_is_said_to_be_missing_there(board: FakeBoard, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "only_here.py").write_text("from latbench.testing import TinySpace\nclass Mine(TinySpace): pass\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import only_here  # type: ignore[import-not-found]

        with (
            reached() as executor,
            pytest.raises(PluginError, match=r"on user@board: .*'only_here'; a plug-in must be installed there too"),
        ):
            run(tmp_path / "a.db", executor, space=only_here.Mine())
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch x", "user@board now"])
def test_what_is_no_machine_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="names no machine"):
        SshExecutor(host)


@pytest.mark.parametrize(
    ("path", "word"),
    [("python3", "python3"), ("~/my env/python", "~/'my env/python'"), ("a;b", "'a;b'"), ("/a b/c", "'/a b/c'")],
)
def test_a_path_reaches_the_shell_there_as_one_word(path: str, word: str) -> None:
    assert connection._word(path) == word


def test_the_command_line_measures_there(board: FakeBoard, tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    space = ["--space", "nasbench201", "-S", "cells=1", "-S", "channels=4", "-S", "image=8"]
    command = ["profile", *space, "--backend", NULL, "--samples", "3", "--store", str(store), "--json"]
    outcome = CliRunner().invoke(cli.app, [*command, "--host", HOST, "--host-python", sys.executable])
    assert outcome.exit_code == 0, outcome.output
    assert board.calls()[0].startswith(f"{HOST} {sys.executable} -m latbench.measure.workers.remote")
    with Store(store) as opened:
        assert opened.count("architecture") == 3
    outcome = CliRunner().invoke(cli.app, [*command, "--host-python", "python3"])
    assert outcome.exit_code == 2
    assert "give --host" in outcome.output

"""A store that cannot be written can be read: all of it, and without leaving anything behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from latbench.errors import StoreError
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store
from latbench.tables import import_table
from tests.test_store import CONDITIONS, IDENTITY, measurement

ROOT = Path(__file__).parent.parent
BOUND = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'

READ = """
import json, sys
from tests.test_store import *

with Store(sys.argv[1]) as store:
    print(json.dumps([m.subject for m in store.measurements()]))
    try:
        store.add(CONDITIONS, [measurement("more")])
    except StoreError as error:
        print(error)
"""

WRITE = """
import os, sys
from tests.test_store import *

store = Store(sys.argv[1], IDENTITY)
for name in "abc":
    store.add(CONDITIONS, [measurement(name)])
os.kill(os.getpid(), 9)
"""

COMMANDS = """
import sys
from typer.testing import CliRunner
from latbench import cli

store, out = sys.argv[1:]
for arguments in (
    ["fit", store, "--predictor", "ridge", "--out", f"{out}/ridge.safetensors"],
    ["compare", store, "--predictors", "ridge", "--train", "20", "--seeds", "1"],
    ["compare-runs", store, store],
    ["export", store, f"{out}/table.csv"],
):
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
"""


def read_only(folder: Path, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code where a folder is mounted read-only, which stops root, too."""
    inside = ["sh", "-c", BOUND, str(folder), sys.executable, "-c", code, *map(str, arguments)]
    command = ["unshare", "--map-root-user", "--mount", *inside]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def no_mounts() -> str | None:
    """Say why nothing can be mounted here, or None."""
    if shutil.which("unshare") is None:
        return "needs unshare"
    probe = ["unshare", "--map-root-user", "--mount", "sh", "-c", BOUND, str(Path(__file__).parent), "true"]
    return (
        None if subprocess.run(probe, capture_output=True, check=False).returncode == 0 else "may not mount read-only"
    )


needs_mounts = pytest.mark.skipif(no_mounts() is not None, reason=str(no_mounts()))


def closed(path: Path) -> None:
    with Store(path, IDENTITY) as store:
        store.add(CONDITIONS, [measurement(name) for name in "abc"])
    assert not list(path.parent.glob("*-wal"))


def killed(path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", WRITE, str(path)], cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL
    assert Path(f"{path}-wal").stat().st_size > 0


def killed_and_moved(path: Path) -> None:
    """As a copy of a killed writer's files is, or what a reboot leaves of them."""
    killed(path)
    Path(f"{path}-shm").unlink()


@needs_mounts
@pytest.mark.parametrize("left_behind", [closed, killed, killed_and_moved])
def test_what_a_writer_left_on_a_read_only_mount_is_read(left_behind: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a.db"
    path.parent.mkdir()
    left_behind(path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}
    run = read_only(path.parent, READ, path)
    assert run.returncode == 0, run.stderr
    subjects, refusal = run.stdout.splitlines()
    assert json.loads(subjects) == ["a", "b", "c"]
    assert "choose a folder that you may write to" in refusal
    assert before == {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}


@needs_mounts
def test_a_store_is_read_on_a_read_only_mount_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a.db"
    with Store(path, IDENTITY) as writer:
        for number in range(3):
            writer.add(CONDITIONS, [measurement(str(number))])
            run = read_only(path.parent, READ, path)
            assert run.returncode == 0, run.stderr
            assert json.loads(run.stdout.splitlines()[0]) == [str(i) for i in range(number + 1)]


@needs_mounts
def test_the_commands_that_read_need_no_folder_to_write(tmp_path: Path) -> None:
    runs, table, space = tmp_path / "runs", tmp_path / "table.csv", NasBench201Space()
    cells = space.sample(40, seed=0)
    table.write_text("arch,ms\n" + "".join(f"{cell},{1 + i % 7}\n" for i, cell in enumerate(cells)))
    import_table(table, runs / "a.db", space=space, architecture_column="arch", value_column="ms")
    run = read_only(runs, COMMANDS, runs / "a.db", tmp_path)
    assert run.returncode == 0, run.stderr
    assert [file.name for file in runs.iterdir()] == ["a.db"]


def test_a_reader_who_may_not_write_leaves_no_files_beside_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of theirs would shut out its owner, where the folder is everybody's."""
    path, link = tmp_path / "runs" / "a.db", tmp_path / "link.db"
    path.parent.mkdir()
    closed(path)
    link.symlink_to(path)
    monkeypatch.setattr(os, "access", lambda file, _: Path(file) != path)
    with Store(link) as store:
        assert store.count("architecture") == 3
        assert list(path.parent.iterdir()) == [path]


def test_a_writer_who_comes_while_a_copy_is_made_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    closed(path)
    copy = shutil.copyfile

    def meanwhile(source: Path, to: Path) -> None:
        copy(source, to)
        with Store(path, IDENTITY) as store:
            store.add(CONDITIONS, [measurement("more")])

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    with pytest.raises(StoreError, match="another process began to write"):
        Store(path)


def test_a_store_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    closed(path)

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(shutil, "copyfile", denied)
    with pytest.raises(StoreError, match=r"cannot read .*have its owner let you read it"):
        Store(path)

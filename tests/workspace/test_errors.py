"""A user's mistake and a fault of the machine end a command in one line; a bug keeps its traceback."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace.errors import MACHINE, UserError, mistakes_in_one_line, told_in_a_line


def at(number: int, name: str | None = None, other: str | None = None) -> OSError:
    """As the system raises it."""
    words = [number, os.strerror(number), *([] if name is None else [name])]
    return OSError(*words) if other is None else OSError(*words, None, other)


def raised(error: BaseException, *words: str) -> str:
    """What a command with these words says of an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command", *words])
        with pytest.raises(SystemExit) as ended, mistakes_in_one_line():
            raise error
    return str(ended.value)


@pytest.mark.parametrize(
    ("error", "words", "said"),
    [
        (UserError("steps is 0, expected ≥ 1"), (), "steps is 0, expected ≥ 1"),
        (at(errno.ENOSPC, "out"), (), "no space is left on the disk for out: free some"),
        (at(errno.EDQUOT), (), "no space is left on the disk: free some"),
        (at(errno.EFBIG, "x.tar"), (), "x.tar: file too large"),
        (at(errno.ENOENT, "docs/results/court.json"), (), "docs/results/court.json: no such file"),
        (
            at(errno.ENOENT, "/data/none/x.png"),
            (),
            "/data/none/x.png: no such file",
        ),  # as a listing may name it
        (at(errno.ENOENT, "{tmp}/none"), ("--out", "{tmp}/none"), "none: no such file"),
        (at(errno.ENOENT, "{tmp}/none/a/b"), ("--out={tmp}/none",), "b: no such file"),
        (at(errno.ENOENT, ".hidden/x"), (".hidden",), "x: no such file"),
        (at(errno.EEXIST, "{tmp}/.x.part", "kept"), (), "kept: file exists"),
        (at(errno.ECONNREFUSED), (), "the network: connection refused"),
    ],
)
def test_a_mistake_or_the_machines_fault_is_one_line(
    error: OSError, words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(tmp=tmp_path)
    told = raised(error, *(word.format(tmp=tmp_path) for word in words))
    assert said in told and "\n" not in told


@pytest.mark.parametrize("number", MACHINE, ids=errno.errorcode.get)
def test_a_fault_of_the_machine_is_one_whoever_named_the_file(number: int, tmp_path: Path) -> None:
    error = at(number, str(tmp_path / ".x"))
    assert str(tmp_path) in raised(error) and os.strerror(number).lower() in str(told_in_a_line(error))


@pytest.mark.parametrize(
    "error",
    [
        at(errno.EBADF),
        at(errno.EINVAL),
        at(errno.ECHILD),
        at(errno.ENOENT),
        at(errno.ENOENT, "{tmp}/x"),
        at(errno.ENOENT, ".runs/shard/state.json"),
        at(errno.ENOENT, "/proc/7/stat"),
        at(errno.EEXIST, ".a.publishing-x"),
        OSError("an error without a number"),
        KeyError("x"),
    ],
    ids=repr,
)
def test_a_bug_keeps_its_traceback(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(tmp=tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", "artifacts/shards", "--out", "other"])
    with pytest.raises(type(error)) as kept, mistakes_in_one_line():
        raise error
    assert kept.value is error and told_in_a_line(error) is None


@pytest.mark.parametrize(
    "look",
    [
        lambda: Path("none.json").read_bytes(),
        lambda: Path("../none").rename("other"),
        lambda: os.stat(b"none"),
    ],
)
def test_files_of_the_workspace_are_known_whoever_opens_them(
    look: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the workspace itself is in a hidden or temporary folder."""
    (tmp_path / ".work").mkdir()
    monkeypatch.chdir(tmp_path / ".work")
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit, match="no such file or directory"), mistakes_in_one_line():
        look()

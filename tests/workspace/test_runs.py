"""Laws of run folders: kept across kills, told apart by what decides the result, published whole."""

import dataclasses
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from workflow.runs_command import chosen, drop, find_run, list_runs, parser, state_of
from workspace.errors import UserError
from workspace.exact.manifest import write_json
from workspace.fingerprints import input_fingerprint, listing_fingerprint
from workspace.holding import HeldError, locked, working
from workspace.runs import Identity, RunFolder, adopt, mark_done, publish

IDENTITY = Identity({"steps": 3}, {"shards": "a"}, {"models/mqvae/masker.py": "b"})


def open_run(stage: str, identity: Identity, keep_others: bool) -> RunFolder:
    """The folder of the run with this identity, held by nobody."""
    with working(stage, identity, keep_others) as folder:
        return folder


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"settings": {"steps": 4}}, {"inputs": {"shards": "c"}}, {"code": {"models/mqvae/masker.py": "d"}}],
)
def test_another_setting_input_or_line_of_code_is_another_run(change: dict[str, dict[str, str]]) -> None:
    other = dataclasses.replace(IDENTITY, **change)
    assert other.fingerprint != IDENTITY.fingerprint
    ((part, values),) = change.items()
    assert IDENTITY.differences(other) == [f"{part}: {next(iter(values))}"]


def test_an_unfinished_run_is_found_again_and_finished_ones_go_when_another_starts() -> None:
    folder = open_run("shard", IDENTITY, keep_others=False)
    (folder.work / "half").write_text("x")
    assert (open_run("shard", IDENTITY, keep_others=False).work / "half").read_text() == "x"
    other = open_run("shard", dataclasses.replace(IDENTITY, inputs={}), keep_others=False)
    assert folder.root.is_dir()
    mark_done(folder)
    open_run("shard", dataclasses.replace(IDENTITY, code={}), keep_others=False)
    assert not folder.root.exists() and other.root.is_dir()


def test_two_processes_do_not_work_in_one_run() -> None:
    folder = open_run("shard", IDENTITY, keep_others=False)
    with (
        locked(folder),
        pytest.raises(UserError, match="is being worked on by another process"),
        locked(folder),
    ):
        pytest.fail("held twice")


@pytest.mark.parametrize("link", [True, False])
def test_publishing_replaces_the_destination_whole(link: bool) -> None:
    folder = open_run("shard", IDENTITY, keep_others=False)
    (folder.out / "deep").mkdir()
    (folder.out / "deep" / "new").write_text("new")
    target = Path("artifacts/shards")
    target.mkdir(parents=True)
    (target / "old").write_text("old")
    publish(folder.out, target, link)
    assert [path.name for path in target.rglob("*") if path.is_file()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["shards"]
    assert (folder.out / "deep" / "new").read_text() == "new"


def test_an_adopted_run_goes_on_under_the_new_identity() -> None:
    folder = open_run("shard", IDENTITY, keep_others=False)
    (folder.work / "step").write_text("7")
    mark_done(folder)
    later = dataclasses.replace(IDENTITY, settings={"steps": 9})
    adopted = adopt(folder, later)
    assert adopted.root.name == later.fingerprint and not adopted.done
    assert (adopted.work / "step").read_text() == "7" and adopted.state()["adopted"] == [IDENTITY.fingerprint]
    open_run("shard", IDENTITY, keep_others=False)
    with pytest.raises(UserError, match="exists already"):
        adopt(open_run("shard", IDENTITY, keep_others=True), later)


def test_runs_are_listed_and_found_by_the_start_of_their_name() -> None:
    folder = open_run("shard", IDENTITY, keep_others=False)
    assert len(list_runs()) == 1 and "failed" in list_runs()[0]
    assert find_run(folder.root.name[:6]).root == folder.root
    with pytest.raises(UserError, match="no run called zzz: `python -m workspace.runs list`"):
        find_run("zzz")


def test_a_source_is_known_by_its_names_sizes_and_times(tmp_path: Path) -> None:
    source = tmp_path / "images"
    source.mkdir()
    (source / "a").write_text("1")
    before = listing_fingerprint(source)
    assert listing_fingerprint(source) == before
    (source / "b").write_text("2")
    assert listing_fingerprint(source) != before
    before = listing_fingerprint(source)
    (tmp_path / "elsewhere").mkdir()
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (source / "dangling").symlink_to(tmp_path / "nothing")
    with_links = listing_fingerprint(source)
    (tmp_path / "elsewhere" / "c").write_text("3")
    assert len({before, with_links, listing_fingerprint(source)}) == 3
    with pytest.raises(UserError, match="does not exist"):
        input_fingerprint(tmp_path / "nowhere")


def test_what_a_killed_process_left_half_written_is_swept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "stage" / "0123")
    for name in ("work/tars/.a.tar.xyz", "work/.writing-1/state.json", "work/tars/a.tar", "run.json"):
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_text("{}")
    folder.sweep()
    left = {path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*") if path.is_file()}
    assert left == {"work/tars/a.tar", "run.json"}


def test_a_mirror_is_kept_by_adoption_and_forgotten_with_its_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "stage" / "0123")
    write_json(folder.root / "run.json", {"identity": {}, "seconds": 0.0, "adopted": []})
    assert folder.mirror(None) is None
    url = folder.mirror(f"file://{tmp_path}/there/")
    assert url == f"file://{tmp_path}/there/stage/0123"
    (tmp_path / "there" / "stage" / "0123" / "step-1").mkdir(parents=True)
    other = adopt(folder, Identity({}, {}, {"models/mqvae/model.py": "new"}))
    assert other.root != folder.root and other.mirror("file:///elsewhere") == url
    other.forget()
    assert not other.root.exists() and not (tmp_path / "there" / "stage" / "0123").exists()


def test_a_run_is_forgotten_though_its_checkpoints_elsewhere_cannot_be_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "stage" / "0123")
    url = "nowhere://x/stage/0123"
    write_json(folder.root / "run.json", {"identity": {}, "seconds": 0.0, "adopted": [], "mirror": url})
    folder.forget()
    assert not folder.root.exists() and f"the checkpoints at {url} stay there" in capsys.readouterr().err


def test_a_run_that_is_forgotten_while_another_process_opens_it_is_refused_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "stage" / "0123")
    folder.work.mkdir(parents=True)
    with locked(folder):
        folder.forget()
        assert not list(folder.root.parent.iterdir())
        with pytest.raises(HeldError, match="0123 is being worked on by another process"), locked(folder):
            raise AssertionError("it is gone")
        folder.work.mkdir(parents=True)
    with locked(folder):
        assert (folder.root / "lock").is_file()


def run_of(number: int, state: str, days: float = 0) -> RunFolder:
    """A run of `shard` in a state, last written to some days ago."""
    folder = open_run("shard", dataclasses.replace(IDENTITY, settings={"steps": number}), keep_others=True)
    if state in ("unfinished", "done"):
        (folder.work / "checkpoint").write_text("x")
    if state == "done":
        mark_done(folder)
    for path in (folder.root, *folder.root.rglob("*")):
        os.utime(path, (time.time() - days * 86400,) * 2)
    return folder


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--failed"], {"unfinished", "done", "old"}),
        (["--unfinished"], {"done"}),
        (["--all"], set()),
        (["--all", "--older", "30"], {"failed", "unfinished", "done"}),
        (["--failed", "--older", "30"], {"failed", "unfinished", "done", "old"}),
    ],
)
def test_runs_are_dropped_by_kind_and_age(options: list[str], left: set[str]) -> None:
    runs = {
        "failed": run_of(1, "failed"), "unfinished": run_of(2, "unfinished"), "done": run_of(3, "done"),
        "old": run_of(4, "unfinished", days=40),
    }  # fmt: skip
    assert [state_of(run) for run in runs.values()] == ["failed", "unfinished", "done", "unfinished"]
    assert all(drop(run) for run in chosen(parser().parse_args(["drop", *options])))
    assert {name for name, run in runs.items() if run.root.exists()} == left
    assert len(list_runs()) == len(left)


def test_a_run_that_a_process_works_in_is_listed_so_and_not_dropped() -> None:
    folder = run_of(1, "unfinished")
    with locked(folder):
        assert "running" in list_runs()[0]
        assert not chosen(parser().parse_args(["drop", "--all"]))
        assert not drop(folder) and folder.root.exists()


@pytest.mark.parametrize("options", [[], ["--all", "abc"]])
def test_what_to_drop_is_named_in_one_way(options: list[str]) -> None:
    with pytest.raises(UserError, match="name runs, or one of --failed, --unfinished, --all"):
        chosen(parser().parse_args(["drop", *options]))


@pytest.mark.parametrize(
    ("state", "days", "stays"), [("failed", 1, False), ("failed", 0, True), ("unfinished", 40, True)]
)
def test_a_start_that_failed_is_forgotten_by_the_next_once_it_is_old(
    state: str, days: float, stays: bool
) -> None:
    folder = run_of(1, state, days)
    open_run("shard", IDENTITY, keep_others=True)
    assert folder.root.exists() is stays


def test_a_stage_that_refuses_leaves_no_run(tmp_path: Path) -> None:
    from workflow.running import _forgotten_if_empty

    for made in (False, True):
        folder = run_of(1, "failed")
        if made:
            (folder.work / "checkpoint").write_text("x")
        with pytest.raises(UserError, match="refused"), locked(folder), _forgotten_if_empty(folder):
            raise UserError("refused")
        assert folder.root.exists() is made


def works(seconds: float) -> str:
    """Open, work in and forget the same run again and again, as stages by hand do; what went wrong, or ""."""
    from workflow.running import _forgotten_if_empty

    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        number += 1
        try:
            with working("shard", IDENTITY, True) as folder, _forgotten_if_empty(folder):
                folder.sweep()
                shutil.rmtree(folder.out)
                folder.out.mkdir()
                if number % 2:
                    raise UserError("refused")
                (folder.work / "half").write_text(str(os.getpid()))
                assert (folder.work / "half").read_text() == str(os.getpid()), "two at once"
                folder.forget()
        except UserError:  # held by another, or refused
            pass
        except Exception as error:
            return repr(error)
    return ""


def test_processes_that_open_and_forget_the_same_run_never_meet_in_it() -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(works, [1.0] * 4) == [""] * 4
    assert not [path.name for path in Path(".runs/shard").iterdir() if path.name.startswith(".")]

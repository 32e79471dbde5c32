"""Laws of the second place of checkpoints: what was lost here is taken from there, to the bit."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.field.place import write
from tests.training import test_mqvae_training as images
from training.loop.checkpoints import list_checkpoints
from training.loop.train import TrainingFolder, train
from training.mirror import pull, push
from workspace.errors import UserError
from workspace.runs import STATE
from workspace.settings import Compute
from workspace.stores import opening

LOOP = images.TRAINING.replaced(steps=8, checkpoint_every=2, validate_every=8)


def learn(path: Path, mirror: str | None, steps: int = 8) -> bytes:
    """Train to `steps`; the tensors of the last checkpoint."""
    folder = TrainingFolder(path / "work", path / "metrics", path / "progress.json", mirror)
    loop = LOOP.replaced(steps=steps)
    train(images.training_module(), images.batches(loop), loop, images.Alone(), folder)
    return (list_checkpoints(folder.work)[-1] / "state.safetensors").read_bytes()


@pytest.mark.parametrize("protocol", ["file", "memory", "path"])
def test_a_run_that_lost_its_folder_goes_on_from_the_mirror_to_the_same_bits(
    tmp_path: Path, protocol: str
) -> None:
    base = f"{tmp_path}/there" if protocol == "path" else f"{protocol}://{tmp_path}/there"
    whole = learn(tmp_path / "whole", None)
    learn(tmp_path / "run", base, steps=4)
    shutil.rmtree(tmp_path / "run")
    assert learn(tmp_path / "run", base) == whole
    starts = (tmp_path / "run" / "work" / "attempts.jsonl").read_text()
    assert '"steps_done": 4' in starts


def test_the_mirror_keeps_the_newest_two_and_a_torn_one_is_no_checkpoint(tmp_path: Path) -> None:
    there = tmp_path / "there"
    learn(tmp_path / "run", f"file://{there}")
    assert sorted(path.name for path in there.iterdir()) == ["step-000000006", "step-000000008"]
    (there / "step-000000008" / STATE).unlink()
    pull(f"file://{there}", tmp_path / "fresh")
    assert [path.name for path in list_checkpoints(tmp_path / "fresh")] == ["step-000000006"]
    pull(f"file://{there}", tmp_path / "run" / "work")
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "work")][-1] == "step-000000008"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nowhere://x", "compute.checkpoints nowhere://x: nowhere:// is not opened; expected s3://"),
        ("s4://bucket", "Did you mean s3://"),
        ("s3://key:secret@bucket/x", "holds credentials"),
        ("simplecache::s3://bucket", "is a chain of file systems"),
        ("https://host/x", "nothing can be put there; expected a store"),
        (" ", "expected a path or URL, or null"),
    ],
)
def test_where_no_checkpoint_can_be_put_is_told_before_any_work(url: str, told: str) -> None:
    compute = Compute(
        device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local", checkpoints=url
    )
    with pytest.raises(UserError, match=told):
        compute.check("compute", compute)


def test_a_store_that_fails_for_a_while_gets_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, failed = LocalFileSystem.put_file, list[str]()

    def fails_twice(self: LocalFileSystem, source: str, *more: Any, **named: Any) -> None:
        if len(failed) < 2:
            failed.append(source)
            raise ConnectionError("reset by peer")
        copy(self, source, *more, **named)

    monkeypatch.setattr(LocalFileSystem, "put_file", fails_twice)
    monkeypatch.setattr(opening, "FIRST_PAUSE", 0.01)
    made = write(tmp_path / "step-000000001" / STATE, b"{}").parent
    push(made, f"file://{tmp_path}/there")
    pull(f"file://{tmp_path}/there", tmp_path / "here")
    assert len(failed) == 2 and (tmp_path / "here" / made.name / STATE).read_bytes() == b"{}"


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_checkpoint_that_is_damaged_here_is_fetched_again(damaged: int, tmp_path: Path) -> None:
    """All of them, after which nothing would be left, or the newest alone, whose steps would be lost."""
    there = f"file://{tmp_path}/there"
    learn(tmp_path / "run", there, steps=6)
    made = list_checkpoints(tmp_path / "run" / "work")
    whole = {path: (path / "state.safetensors").read_bytes() for path in made}
    for path in made[-damaged:]:
        (path / "state.safetensors").write_bytes(whole[path][:-1] + b"?")
    learn(tmp_path / "run", there, steps=6)
    assert (made[-1] / "state.safetensors").read_bytes() == whole[made[-1]]
    starts = (tmp_path / "run" / "work" / "attempts.jsonl").read_text().splitlines()
    assert '"steps_done": 6' in starts[-1] and not list((tmp_path / "run" / "work").glob(".writing*"))


def test_one_that_is_nowhere_whole_costs_its_steps_alone(tmp_path: Path) -> None:
    learn(tmp_path / "run", f"file://{tmp_path}/there", steps=6)
    for folder in (tmp_path / "run" / "work", tmp_path / "there"):
        (folder / "step-000000006" / STATE).write_bytes(b"{}")
    learn(tmp_path / "run", f"file://{tmp_path}/there", steps=6)
    starts = (tmp_path / "run" / "work" / "attempts.jsonl").read_text().splitlines()
    assert '"steps_done": 4' in starts[-1]


def test_what_a_kill_left_of_a_removal_goes_with_the_next_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "there" / "step-000000001" / "state.safetensors", b"a part")
    write(tmp_path / "there" / "other" / "state.safetensors", b"not ours")
    learn(tmp_path / "run", f"file://{tmp_path}/there", steps=6)
    names = sorted(path.name for path in (tmp_path / "there").iterdir())
    assert names == ["other", "step-000000004", "step-000000006"]


class Torn(BaseException):
    """What ends a copy in the middle, as a kill does."""


def test_no_part_of_a_checkpoint_that_is_replaced_or_removed_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever call to the other place is the last one before a kill."""
    there = tmp_path / "there"
    learn(tmp_path / "run", f"file://{there}")
    newest = list_checkpoints(tmp_path / "run" / "work")[-1]
    whole = {path.name: path.read_bytes() for path in newest.iterdir()}
    for name in ("rm", "rm_file", "put_file", "makedirs"):

        def torn(self: LocalFileSystem, *given: Any, name: str = name, **named: Any) -> None:
            if name == "rm":  # files go one by one, in no order that we choose
                (there / newest.name / "state.safetensors").unlink()
            raise Torn(name)

        with monkeypatch.context() as patched, pytest.raises(Torn, match=name):
            patched.setattr(LocalFileSystem, name, torn)
            push(newest, f"file://{there}")
        sealed = [path.parent for path in there.glob(f"*/{STATE}")]
        if there / newest.name in sealed:
            assert {path.name: path.read_bytes() for path in (there / newest.name).iterdir()} == whole
        push(newest, f"file://{there}")
        assert {path.name: path.read_bytes() for path in (there / newest.name).iterdir()} == whole

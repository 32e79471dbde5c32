"""Laws of the second place of checkpoints: what was lost here is taken from there, to the bit."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.training import test_mqvae_training as images
from training.loop.checkpoints import list_checkpoints
from training.loop.train import TrainingFolder, train
from training.mirror import pull, push
from workspace.errors import UserError
from workspace.runs import STATE

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


def test_a_url_that_nothing_here_can_open_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compute.checkpoints is nowhere://x: Protocol not known"):
        push(tmp_path, "nowhere://x")


class Torn(Exception):
    """What ends a copy in the middle."""


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

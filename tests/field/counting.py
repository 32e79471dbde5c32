"""The one law of every source: each file below it is kept, skipped with its reason, or passed over and counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from settings.shard import ShardSettings
from shards.images import SKIPPED, ImageSample, ImageShards
from shards.inspect import Asked, inspected
from stages import shard
from workspace.errors import UserError
from workspace.exact.manifest import read_json
from workspace.runs import RunFolder
from workspace.settings import Compute

HERE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
SETTINGS: dict[str, Any] = {
    "kind": "folder",
    "image_size": 8,
    "format": "png",
    "quality": 95,
    "val_fraction": 0.5,
    "samples_per_shard": 4,
    "max_bad_fraction": 1.0,
    "duplicates": "keep",
    "seed": 0,
}


@dataclass(frozen=True)
class Sharded:
    """What `shard` made of a source."""

    folder: RunFolder
    counts: dict[str, int]

    @property
    def shards(self) -> ImageShards:
        """The artifact, opened."""
        return ImageShards.open(self.folder.out)

    def samples(self) -> list[ImageSample]:
        """Every sample, training images first."""
        shards = self.shards
        return [
            sample
            for split in ("train", "val")
            for path in shards.paths(split)
            for sample in shards.samples(path)
        ]

    def told(self) -> str:
        """`seen 3 = 1 train + 1 val + 1 skipped; 2 passed over`."""
        found = self.counts
        return (
            f"seen {found['seen']} = {found['train']} train + {found['val']} val + {found['skipped']} skipped; "
            f"{found['passed_over']} passed over"
        )


def sharded(source: object, work: Path, beside: Sequence[str] = (), **changes: Any) -> Sharded:
    """Shard a source in this process and check the law of counts.

    Args:
        source: `shard.source`; where it is a folder of files, every file below it is accounted for.
        work: an empty folder, or one of an earlier run.
        beside: files of the source that are read for labels or captions, and so are neither seen nor passed over.
        changes: other settings than `SETTINGS`.
    """
    folder = RunFolder(work)
    for part in (folder.out, folder.metrics, folder.work):
        part.mkdir(parents=True, exist_ok=True)
    settings = ShardSettings.model_validate(SETTINGS | {"source": str(source)} | changes)
    shard.run(settings, HERE, shard.Inputs(), folder)
    found = read_json(folder.metrics / "metrics.json")
    check_counts(found, folder.out)
    check_inspected(settings, found)
    if Path(str(source)).is_dir() and ImageShards.open(folder.out).facts.kind != "webdataset":
        files = sum(
            path.is_file() or (path.is_symlink() and not path.is_dir())
            for path in Path(str(source)).rglob("*")
        )
        assert files == found["seen"] + found["passed_over"] + len(beside), (files, found, beside)
    return Sharded(folder, found)


def check_inspected(settings: shard.ShardSettings, found: dict[str, int]) -> None:
    """Assert that `shards.inspect` says of the source what became of it, where nothing was skipped."""
    asked = Asked(settings.source, settings.kind, settings.reading, settings.val_fraction, settings.seed)
    splits = next(line for line in inspected(asked) if line.startswith("splits: "))
    if not found["skipped"]:
        assert splits.startswith(f"splits: train {found['train']:,}, val {found['val']:,} "), (splits, found)


def check_counts(found: dict[str, int], shards: Path) -> None:
    """Assert that seen = kept + skipped, by the metrics, the manifest and skipped.jsonl alike."""
    counts = ImageShards.open(shards).facts.counts
    skipped = len((shards / SKIPPED).read_text(encoding="utf-8").splitlines())
    assert {split: found[split] for split in counts} == dict(counts)
    assert found["skipped"] == skipped
    assert found["seen"] == sum(counts.values()) + skipped


def refused(source: object, work: Path, **changes: Any) -> str:
    """The one line that `shard` ends in, without this machine's folders."""
    try:
        told = sharded(source, work, **changes).told()
    except UserError as error:
        line = str(error)
        assert "\n" not in line, line
        return line.replace(f"{work.parent}/", "")
    raise AssertionError(f"not refused: {told}")

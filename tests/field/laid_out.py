"""Small sources laid out by code, looked at by `shards.inspect`, sharded, and said in one line."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from shards.inspect import Asked, inspected
from shards.layouts.formats import told_passed_over
from shards.layouts.reading import Reading
from shards.making.sources import list_source
from shards.making.splits import with_splits
from tests.field.counting import SETTINGS, Sharded, sharded
from tests.shards.making import encoded, picture
from workspace.errors import UserError

Texts = Mapping[str, str | bytes | Callable[[], bytes]]
"""File → what is in it, or what makes that."""


def some(folder: str, count: int, form: str = "png") -> list[str]:
    """Names of `count` images in a folder."""
    prefix = f"{folder}/" if folder else ""
    return [f"{prefix}{folder.rpartition('/')[2] or 'image'}_{number:03d}.{form}" for number in range(count)]


def lay(root: Path, images: Iterable[str], texts: Texts | None = None) -> Path:
    """Write a different picture for each name, and the texts."""
    for number, name in enumerate(images):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            encoded(picture(number), "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png")
        )
    for name, text in (texts or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text() if callable(text) else text)
    return root


def taken(folder: Path, images: Iterable[str], texts: Texts | None = None, **changes: Any) -> str:
    """Lay out a folder, inspect and shard it with kind auto (or what `changes` say): what came of it, in one line."""
    return tried(lay(folder / "data", images, texts), folder, **changes)


def tried(source: Path, folder: Path, **changes: Any) -> str:
    """`kind: CLASS train+val, …; N captioned; seen …; N passed over: …; notes`, where inspect says the same as the shards."""
    changes = {"kind": "auto"} | changes
    reading = reading_of(changes)
    listed = list_source(changes["kind"], str(source), reading)
    made = sharded(source, folder / "run", listed.read, **changes)
    settings = SETTINGS | changes
    split = with_splits(listed, settings["val_fraction"], settings["seed"])
    report = inspected(
        Asked(str(source), changes["kind"], reading, settings["val_fraction"], settings["seed"])
    )
    facts = made.shards.facts
    assert report[0] == f"{source}: {facts.kind}"
    if not made.counts["skipped"]:
        assert any(
            line.startswith(f"splits: train {made.counts['train']}, val {made.counts['val']} ")
            for line in report
        )
    assert [line for line in report if line.startswith("note: ")] == [
        f"note: {note}" for note in split.notes if "is taken for" not in note
    ]
    parts = [f"{facts.kind}: {classes_of(made)}", captions_of(made), made.told().rpartition("; ")[0]]
    parts += [told_passed_over(dict(split.passed_over))]
    parts += [note for note in split.notes if "is taken for" not in note]
    return "; ".join(filter(None, parts)).replace(f"{folder}/", "")


def reading_of(changes: Mapping[str, Any]) -> Reading:
    """As the stage makes it of its settings."""
    tables = changes.get("tables")
    return Reading(
        changes.get("roles", {}), None if tables is None else tuple(tables), changes.get("columns", {})
    )


def classes_of(made: Sharded) -> str:
    """`cat 2+1, dog 2+1`: training and validation images of each class."""
    facts = made.shards.facts
    if facts.classes is None:
        return "no classes"
    counts = {split: Counter[int | None]() for split in ("train", "val")}
    for split, found in counts.items():
        for path in made.shards.paths(split):
            found.update(sample.cls for sample in made.shards.samples(path))
    return ", ".join(
        f"{name} {counts['train'][number]}+{counts['val'][number]}"
        for number, name in enumerate(facts.classes)
    )


def captions_of(made: Sharded) -> str:
    """`3 captioned (a cat | a dog | …)`, or ""."""
    found = [sample.captions for sample in made.samples() if sample.captions]
    shown = " | ".join(sorted({caption for captions in found for caption in captions})[:4])
    return f"{len(found)} captioned ({shown})" if found else ""


def turned_away(folder: Path, images: Iterable[str], texts: Texts | None = None, **changes: Any) -> str:
    """Lay out a folder that `shard` and `inspect` refuse with the same line, before any picture is read."""
    return turned_away_at(lay(folder / "data", images, texts), folder, **changes)


def turned_away_at(source: object, folder: Path, **changes: Any) -> str:
    """The line in which both end."""
    changes = {"kind": "auto"} | changes
    with pytest.raises(UserError, match=".") as refused:
        sharded(source, folder / "run", **changes)
    with pytest.raises(UserError, match=".") as seen:
        inspected(Asked(str(source), changes["kind"], reading_of(changes)))
    assert str(refused.value) == str(seen.value) and "\n" not in str(refused.value)
    return f"refused: {refused.value}".replace(f"{folder}/", "")

"""The embedded shapes: the artifact of draw_shapes, with class, caption, attributes and mask of each image."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shards.layouts.listed import Location, Source, SourceImage
from workspace.errors import UserError
from workspace.manifest import NAME, parsed, read_manifest, validated

Row = TypeVar("Row")


@dataclass(frozen=True)
class ShapesFacts:
    """What the manifest of drawn shapes says."""

    classes: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]


def list_shapes(source: str) -> Source:
    """The artifact of draw_shapes, every file of it checked."""
    root = Path(source)
    manifest = read_manifest(root, "shapes")
    facts = validated(ShapesFacts, manifest.facts, str(root / NAME))
    captions = {row.name: row.caption for row in _lines(CaptionRow, root / "captions.jsonl")}
    attributes = {row.name: row.attributes for row in _lines(AttributesRow, root / "attributes.jsonl")}
    images = []
    for name in sorted(manifest.files):
        if name.startswith("masks/") or not name.endswith(".png"):
            continue
        split, _, rest = name.partition("/")
        cls = rest.partition("/")[0]
        if cls not in facts.classes or name not in captions or name not in attributes:
            raise UserError(f"{root / name} has no class, caption or attributes: run `dvc repro draw_shapes`")
        images.append(
            SourceImage(
                name,
                Location(str(root / name)),
                split,
                facts.classes.index(cls),
                (captions[name],),
                attributes[name],
                Location(str(root / "masks" / name)),
            )
        )
    return Source(images, facts.classes, facts.attributes, {"shapes": manifest.fingerprint})


@dataclass(frozen=True)
class CaptionRow:
    """A line of captions.jsonl."""

    name: str
    caption: str


@dataclass(frozen=True)
class AttributesRow:
    """A line of attributes.jsonl."""

    name: str
    attributes: dict[str, str]


def _lines(kind: type[Row], path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield parsed(kind, line, f"{path}, line {number}")

"""The built-in shapes: an artifact of draw_shapes, with each image's class, caption, attributes and mask."""

from collections.abc import Mapping
from pathlib import Path

from shards.layouts.listed import ImageList, Location, Source, SourceImage
from shards.layouts.tars import tar_samples
from shards.shapes import ShapesFacts
from workspace.errors import UserError
from workspace.exact.manifest import facts_of, parsed, read_manifest, verify_file

MEMBERS = ("png", "txt", "attributes.json", "mask.png")
"""The members of each image, whose key is SPLIT/CLASS/NUMBER."""


def list_shapes(source: str) -> Source:
    """An artifact of draw_shapes, with every byte of its tars checked.

    Raises:
        UserError: it does not exist, was changed, or an image lacks its class, caption, attributes or mask.
    """
    root = Path(source)
    manifest = read_manifest(root, "shapes")
    facts = facts_of(ShapesFacts, manifest)
    images = []
    for name in manifest.files:
        verify_file(root, manifest, name)
        for key, members in tar_samples(root / name).items():
            images.append(_image(key, members, facts, f"{root / name}: {key}"))
    images.sort(key=lambda image: image.name)
    return Source(ImageList(images), facts.classes, facts.attributes, {"shapes": manifest.fingerprint})


def _image(key: str, members: Mapping[str, Location], facts: ShapesFacts, where: str) -> SourceImage:
    split, _, rest = key.partition("/")
    cls = rest.partition("/")[0]
    lacking = [name for name in MEMBERS if name not in members]
    if cls not in facts.classes or lacking:
        lacks = ", ".join(lacking) or f"a class of {', '.join(facts.classes)}"
        raise UserError(f"{where} lacks {lacks}: run `dvc repro demo/dvc.yaml:draw_shapes`")
    return SourceImage(
        f"{key}.png",
        members["png"],
        split,
        facts.classes.index(cls),
        (members["txt"].read().decode(),),
        parsed(dict[str, str], members["attributes.json"].read(), where),
        members["mask.png"],
    )

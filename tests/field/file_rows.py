"""Files: what is noticed when they change, which formats are read, duplicates, links, what is encoded again."""

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from shards.list import write_listing
from tests.field.place import Place, picture_bytes, pictures, write
from tests.field.table import Field, Row
from tests.hostile.table import World
from workspace.exact.manifest import sha256_file, write_json, write_manifest
from workspace.fingerprints import input_fingerprint

AREA = "files of a source"


def own_manifest(field: Field, folder: Path) -> str:
    source = pictures(folder / "data", 6)
    write_json(source / "manifest.json", {"name": "my data", "version": 3})
    place = Place.of(folder / "place", source)
    first = place.run()
    pictures(source, 1, first=6)
    again = place.run()
    return f"{first.counts['seen']} images, then {again.counts['seen']}; 1 passed over: {again.counts['passed_over']}"


def artifact(folder: Path) -> Path:
    """A folder that says, sealed and byte by byte, that this project made it."""
    for name in "ab":
        pictures(folder / name, 4, first=ord(name))
    write_manifest(folder, "shapes", {}, {})
    return folder


def copied_artifact(field: Field, folder: Path) -> str:
    """One of our artifacts as a class folder, one picture of it replaced by hand, its manifest left as it was."""
    source = artifact(folder / "shapes")
    place = Place.of(folder / "place", source, kind="class_folder")
    first = place.run()
    (source / "a" / "097.png").write_bytes(picture_bytes(1))
    again = place.run()
    return f"first {first.encoded} encoded, then {again.encoded}"


def altered_artifact(field: Field, folder: Path) -> str:
    """An artifact as a stage's input: known by its manifest until a byte of it, or a file more, is another."""
    source = artifact(folder / "shapes")
    with chdir(folder):
        known = [input_fingerprint(source)]
        os.utime(source / "a" / "097.png", ns=(1, 1))
        known.append(input_fingerprint(source))
        data = (source / "a" / "097.png").read_bytes()
        (source / "a" / "097.png").write_bytes(data[:-1] + b"\0")
        known.append(input_fingerprint(source))
        (source / "a" / "097.png").write_bytes(data)
        write(source / "a" / "new.png", data)
        known.append(input_fingerprint(source))
    by_manifest = sha256_file(source / "manifest.json")
    return ", ".join("by its manifest" if name == by_manifest else "altered" for name in known)


def replaced_under_a_listing(field: Field, folder: Path) -> str:
    source = pictures(folder / "data", 6)
    write_listing(source, folder / "listing")
    place = Place.of(folder / "place", folder / "listing")
    first = place.run()
    (source / "003.png").write_bytes(picture_bytes(99))
    again = place.run()
    return f"first {first.encoded} encoded, after one was replaced {again.encoded}"


def listing_made_again(field: Field, folder: Path) -> str:
    """A replaced image of the same length: the listing itself changes, so DVC sees it."""
    source = pictures(folder / "data", 2)
    write_listing(source, folder / "listing")
    before = (folder / "listing").read_bytes()
    data = (source / "001.png").read_bytes()
    (source / "001.png").write_bytes(data)
    os.utime(source / "001.png", ns=(1, 1))
    write_listing(source, folder / "listing")
    return "the listing differs" if (folder / "listing").read_bytes() != before else "the same listing"


def asked_again(field: Field, folder: Path) -> str:
    place = Place.of(folder / "place", pictures(folder / "data", 6))
    place.run()
    again = place.run()
    forced = place.run("--force")
    return f"again: {again.encoded} encoded, {again.line('finished')}; --force: {forced.encoded} encoded"


def added(field: Field, folder: Path) -> str:
    source = pictures(folder / "data", 24)
    place = Place.of(folder / "place", source)
    place.run()
    before = {tar.read_bytes(): tar.stat().st_ino for tar in place.tars()}
    pictures(source, 1, first=30)
    again = place.run()
    linked = sum(tar.stat().st_ino == before.get(tar.read_bytes()) for tar in place.tars())
    fresh = Place.of(folder / "fresh", source)
    fresh.run()
    equal = [tar.read_bytes() for tar in place.tars()] == [tar.read_bytes() for tar in fresh.tars()]
    return f"{again.encoded} encoded, {again.line('unchanged')}; some tars linked: {linked > 0}; as from scratch: {equal}"


def removed(field: Field, folder: Path) -> str:
    source = pictures(folder / "data", 24)
    place = Place.of(folder / "place", source)
    place.run()
    (source / "005.png").unlink()
    again = place.run()
    return f"{again.encoded} encoded, {again.counts['seen']} seen"


def touched_setting(field: Field, folder: Path) -> str:
    source = pictures(folder / "data", 12)
    Place.of(folder / "place", source).run()
    sizes = Place.of(folder / "place", source, samples_per_shard=3).run().encoded
    quality = Place.of(folder / "place", source, format="jpg").run().encoded
    return f"other tar sizes: {sizes} encoded; another format: {quality} encoded"


def class_added(field: Field, folder: Path) -> str:
    """Class numbers shift when a class is added before others: pictures are taken, labels are new."""
    for name in "bc":
        pictures(folder / "data" / name, 6, first=ord(name))
    place = Place.of(folder / "place", folder / "data", kind="class_folder")
    place.run()
    pictures(folder / "data" / "a", 2)
    again = place.run()
    fresh = Place.of(folder / "fresh", folder / "data", kind="class_folder")
    fresh.run()
    equal = [tar.read_bytes() for tar in place.tars()] == [tar.read_bytes() for tar in fresh.tars()]
    return f"{again.encoded} encoded; as from scratch: {equal}"


def twice_listed(field: Field, folder: Path) -> str:
    source = pictures(folder / "data", 6)
    write_listing(source, folder / "listing")
    text = (folder / "listing").read_text()
    (folder / "listing").write_text(text + text.splitlines(True)[2])
    kept = Place.of(folder / "keep", folder / "listing").run()
    dropped = Place.of(folder / "drop", folder / "listing", duplicates="drop").run()
    return f"keep: {kept.counts['duplicates']} duplicates; drop: {dropped.counts['skipped']} skipped of {dropped.counts['seen']}"


def in_both_splits(field: Field, folder: Path) -> str:
    for split, first in (("train", 0), ("val", 100)):
        pictures(folder / "data" / split / "cat", 4, first=first)
    shutil.copyfile(folder / "data/train/cat/001.png", folder / "data/val/cat/copy.png")
    kept = Place.of(folder / "keep", folder / "data", kind="class_folder").run()
    dropped = Place.of(folder / "drop", folder / "data", kind="class_folder", duplicates="drop").run()
    return f"{kept.line('duplicates')} | drop: {dropped.counts['train']} train, {dropped.counts['val']} val"


def under_two_classes(field: Field, folder: Path) -> str:
    for name, first in (("cat", 0), ("dog", 100)):
        pictures(folder / "data" / name, 6, first=first)
    shutil.copyfile(folder / "data/cat/001.png", folder / "data/dog/same.png")
    return Place.of(folder / "keep", folder / "data", kind="class_folder").run().line("several classes")


def linked_files(field: Field, folder: Path) -> str:
    """cache.type symlink on the source: every image is a link into a cache whose names have no extension."""
    source = pictures(folder / "data", 6)
    for path in sorted(source.iterdir()):
        path.rename(folder / path.stem)
        path.symlink_to(folder / path.stem)
    return str(Place.of(folder / "place", source).run().counts["skipped"]) + " skipped"


def by_links(kind: str) -> Callable[[Field, Path], str]:
    """Every artifact as DVC lays it out under one cache type, then the stages that read it, by hand into other folders."""

    def outcome(field: Field, folder: Path) -> str:
        root = folder / "world"
        shutil.copytree(field.world().root, root, ignore=shutil.ignore_patterns(".runs"))
        if kind == "folder":
            (root / "artifacts").rename(folder / "elsewhere")
            (root / "artifacts").symlink_to(folder / "elsewhere")
        else:
            _into_cache(root / "artifacts", folder / "cache", kind)
        stages = ("tokenize", "reconstruct", "reference", "train_stackformer", "evaluate")
        told = [World(root).run(stage, "--out", str(folder / stage)) for stage in stages]
        return ", ".join(told)

    return outcome


def _into_cache(artifacts: Path, cache: Path, kind: str) -> None:
    for path in [path for path in artifacts.rglob("*") if path.is_file()]:
        place = cache / hashlib.md5(str(path).encode(), usedforsecurity=False).hexdigest()
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
        place.chmod(0o444)
        if kind == "symlink":
            path.symlink_to(place)
        elif kind == "hardlink":
            os.link(place, path)
        else:
            shutil.copyfile(place, path)


DONE = "done, done, done, done, done"
ROWS: tuple[Row, ...] = (
    Row("cache.type symlink: stages look for their inputs in the cache", AREA, "every artifact file a link into a cache of hashes; 5 stages", DONE, by_links("symlink")),
    Row("cache.type hardlink", AREA, "every artifact file a read-only hard link; 5 stages", DONE, by_links("hardlink")),
    Row("cache.type reflink or copy", AREA, "every artifact file a copy; 5 stages", DONE, by_links("copy")),
    Row("artifacts is a link to another disk", AREA, "artifacts a link; 5 stages", DONE, by_links("folder")),
    Row("images added to a folder that has a manifest.json of its own are not noticed", AREA, "6 pictures, a user's manifest.json; one more picture", "6 images, then 7; 1 passed over: 1", own_manifest),
    Row("a copied artifact used as a class folder, altered by hand, passes for the old one", AREA, "a picture of a sealed artifact replaced, its manifest kept", "first 8 encoded, then 1", copied_artifact),
    Row("a copy of an artifact that was altered by hand passes for the artifact", AREA, "times changed; then a byte; then one more file", "by its manifest, by its manifest, altered, altered", altered_artifact),
    Row("images replaced under unchanged names behind a listing are not noticed", AREA, "python -m shards.list, a picture overwritten", "first 6 encoded, after one was replaced 1", replaced_under_a_listing),
    Row("a listing made again after an image was replaced by one of the same length is the same file", AREA, "shards.list twice, a picture's time changed between", "the listing differs", listing_made_again),
    Row("forcing a stage publishes the old run", AREA, "shard three times, the last with --force", "again: 0 encoded, [shard] finished before as .runs/shard/#: publishing it again (--force runs it again); --force: 6 encoded", asked_again),
    Row("an image is added and everything is encoded again", AREA, "24 pictures in tars of 4; one more", "1 encoded, 24 pictures taken from an earlier run: unchanged; some tars linked: True; as from scratch: True", added),
    Row("an image is removed and everything is encoded again", AREA, "24 pictures, one deleted", "0 encoded, 23 seen", removed),
    Row("another number of samples in a tar encodes everything again", AREA, "samples_per_shard 4, then 3, then another format", "other tar sizes: 0 encoded; another format: 12 encoded", touched_setting),
    Row("a class is added and labels of pictures that are taken over are stale", AREA, "classes b, c; then a", "2 encoded; as from scratch: True", class_added),
    Row("an image listed twice is stored twice", AREA, "a line of the listing twice", "keep: 1 duplicates; drop: 1 skipped of 7", twice_listed),
    Row("the same image in train and val goes unnoticed", AREA, "train/cat/001.png copied to val/cat", "1 duplicates: images with the bytes of another one; 1 are in both splits, train/cat/001.png (train) = val/cat/copy.png (val); `shard.duplicates: drop` keeps one of each | drop: 3 train, 5 val", in_both_splits),
    Row("the same image under two classes goes unnoticed", AREA, "cat/001.png copied to dog", "1 have several classes, ", under_two_classes),
    Row("images that are links into DVC's cache (cache.type symlink)", AREA, "links to files without extension", "0 skipped", linked_files),
)  # fmt: skip

"""Labels and captions beside the images that the chosen layout does not read: told, so that nobody misses them."""

from dataclasses import replace

from shards.layouts.beside import read_beside
from shards.layouts.listed import Source
from shards.layouts.reading import Reading
from shards.layouts.texts import TEXTS, hold_numbers, texts_beside
from shards.layouts.walking import Files
from workspace.errors import UserError


def unread(files: Files, found: Source, kind: str, reading: Reading, source: str) -> list[str]:
    """What to say of tables and texts that were not read; nothing where `shard.tables` was given.

    Texts of the images' own names are counted, not opened.
    """
    if reading.tables is not None:
        return []
    notes = []
    texts = texts_beside(files, files.names)
    if texts and not any(name in texts for name in found.read) and not hold_numbers(files, texts):
        notes.append(f"{len(texts):,} texts beside the images are not read by kind {kind}{_how(kind, TEXTS)}")
    others = replace(files, others={name: why for name, why in files.others.items() if name not in texts})
    try:
        beside = read_beside(others, files.names, replace(reading, columns={}), source)
    except UserError:
        return notes  # a table of something else: nobody asked for it
    for name in beside.read:
        if name not in found.read:
            notes.append(f"{name} names these images and is not read by kind {kind}{_how(kind, name)}")
    return notes


def _how(kind: str, name: str) -> str:
    if kind == "class_folder":
        return f": shard.tables: ['{name}'] takes captions from it, shard.kind: metadata labels"
    return ": shard.kind: metadata takes labels, captions or splits from it"

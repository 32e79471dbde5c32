"""A folder per class, with or without split folders above."""

from pathlib import Path

from shards.layouts.listed import Location, Source, SourceImage
from shards.layouts.walking import SPLIT_NAMES, files_of
from workspace.errors import UserError


def list_class_folder(source: str) -> Source:
    """CLASS/…/NAME.jpg, or {train,val}/CLASS/…/NAME.jpg."""
    files = files_of(source)
    root = files.root
    rows = []
    for name in files.names:
        parts = Path(name).parts
        split = SPLIT_NAMES.get(parts[0].lower()) if len(parts) > 2 else None
        folders = parts[1:] if split else parts
        if len(folders) < 2:
            raise UserError(
                f"{root / name} lies in no class folder; expected CLASS/NAME.jpg, or kind folder for unlabelled images"
            )
        rows.append((name, split, folders[0]))
    classes = tuple(sorted({row[2] for row in rows}))
    torn = next((name for name in classes if not _is_text(name)), None)
    if torn is not None:
        raise UserError(f"shard.source {source}: the class folder {torn!r} is no UTF-8 text: rename it")
    number = {name: index for index, name in enumerate(classes)}
    images = [SourceImage(name, Location(str(root / name)), split, number[cls]) for name, split, cls in rows]
    return Source(images, classes, passed_over=files.passed_over)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

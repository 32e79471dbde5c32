"""Class names: for numbers, from a list or JSON beside the images (classes.txt, cat_to_name.json); and doubtful names."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from shards.layouts.listed import Source, clean_caption
from shards.layouts.names import counted
from shards.layouts.tables import lines_of
from shards.layouts.walking import Files
from workspace.errors import UserError
from workspace.exact.json_text import parse_json

FILES = frozenset({
    "classnames.txt", "classes.txt", "class_names.txt", "labels.txt", "names.txt", "classes.json", "class_names.json",
    "classnames.json", "label_map.json", "labels.json", "label_names.json", "id2label.json", "idx_to_class.json",
    "class_to_idx.json", "label2id.json", "cat_to_name.json",
})  # fmt: skip
MAPS = FILES - {"labels.txt", "labels.json", "names.txt"}
"""Files of class names; other tables may have numbers for image names."""
NUMBERED = re.compile(r"(\d+)[\s,;:]+(.+)")
"""A line with a number and a name."""
MOST_BYTES = 1 << 24


def with_class_names(files: Files, found: Source) -> Source:
    """The source with its numbered classes named, if one file beside the images names each; else unchanged."""
    classes = found.classes or ()
    if not classes or not all(name.isdecimal() and name.isascii() for name in classes):
        return found
    numbers = [int(name) for name in classes]
    for name in files.others:
        if (
            PurePosixPath(name).name.lower() not in FILES
            or name in found.read
            or files.size(name) > MOST_BYTES
        ):
            continue
        names = names_of(files.locate(name).read(), name, numbers)
        chosen = [names.get(number, "") for number in numbers]
        if all(chosen) and len(set(chosen)) == len(chosen):
            return _named(files, found, name, tuple(chosen))
    return found


def _named(files: Files, found: Source, name: str, chosen: tuple[str, ...]) -> Source:
    passed_over, why = dict(found.passed_over), files.others[name]
    passed_over[why] -= 1
    note = f"class names are from {name} ({(found.classes or ('',))[0]}: {chosen[0]})"
    return replace(
        found,
        classes=chosen,
        passed_over={why: count for why, count in passed_over.items() if count},
        read=(*found.read, name),
        notes=(*found.notes, note),
    )


def names_of(data: bytes, name: str, numbers: Collection[int], from_zero: bool = False) -> Mapping[int, str]:
    """Number → name; empty if the file holds something else.

    Args:
        data: a list of names, lines with a number and a name, or a JSON of either.
        name: the file's name.
        numbers: the classes' numbers. A list counts from 1 if 0 is not among them and the largest equals its number of lines.
        from_zero: whether other lists count from 0; else they are not read.
    """
    if name.lower().endswith(".json"):
        try:
            value = parse_json(data, name)
        except UserError:
            return {}
        if isinstance(value, dict):
            pairs = [*value.items(), *((number, text) for text, number in value.items())]
            return {
                int(key): str(text) for key, text in pairs if str(key).isdecimal() and isinstance(text, str)
            }
        rows = [clean_caption(str(row)) for row in value] if isinstance(value, list) else []
    else:
        lines = lines_of(data.decode("utf-8-sig", "replace"))
        rows = [text for line in lines if (text := clean_caption(line))]
    pairs_of_lines = [NUMBERED.fullmatch(row) for row in rows]
    if rows and all(pairs_of_lines):
        return {int(match[1]): match[2] for match in pairs_of_lines if match}
    otherwise = 0 if from_zero else -1
    first = 0 if 0 in numbers else 1 if max(numbers) == len(rows) else otherwise
    # labels.txt may hold the images' labels instead
    exact = from_zero or PurePosixPath(name).name.lower() in MAPS or len(rows) == max(numbers) + 1 - first
    return dict(enumerate(rows, first)) if first >= 0 and exact else {}


def told_classes(classes: Sequence[str]) -> list[str]:
    """Notes about names that differ only by case or spaces, or that hold several labels: `a|b` beside `a` and `b`."""
    cases = Counter(map(str.casefold, classes))
    forms = Counter(map(_form, classes))
    told = {
        "case": [name for name in classes if cases[name.casefold()] > 1],
        "spaces or the form of signs": [
            f"{name!r}" for name in classes if cases[name.casefold()] == 1 and forms[_form(name)] > 1
        ],
    }
    alike = [
        f"classes whose names differ only by {how}: {counted(names)}" for how, names in told.items() if names
    ]
    joined = [name for name in classes if _is_joined(name, classes)]
    how = "may be several labels of one image, and each combination is a class of its own"
    return [*alike, *([f"{counted(joined, 3)}: {how}"] if joined else [])]


def _form(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def _is_joined(name: str, classes: Sequence[str]) -> bool:
    parts = [part.strip() for part in re.split(r"[|;,]", name)]
    return len(parts) > 1 and set(parts) <= set(classes)

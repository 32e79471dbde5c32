"""Guesses classes from image file names: `cat.0.jpg`, `Abyssinian_12.jpg`, `1000_truck.png`; and tells how sure that is.

It is a guess because cameras, browsers and programs number files too, and parts of one data set (a picture and its mask)
have similar names.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shards.layouts.cells import label_text
from shards.layouts.names import PARTS, SPLIT_WORDS, begins_like_split, splits_of, words_of
from shards.layouts.tars import MASK_WORDS

FRONT = re.compile(r"(.+?)(?:(?:[\W_]+\d+)+\W*|(?<=[^\W\d_])\d+)")
"""A label and a number: `cat.0`, `cat (12)`, `n01440764_10026`, `dog17`."""
BACK = re.compile(r"(\d+)[\W_]+([^\W\d_].*)")
"""A number and a label, as in CIFAR's PNGs: `1000_truck`."""
A_WORD = re.compile(r"[^\W\d_]{2}|[^\W\d_a-zA-Z]")
"""A label has two letters in a row, or one letter that is a word (Chinese)."""
WORDNET = re.compile(r"n\d{8}")
MASK_TAIL = re.compile(r"(.+)[ ._-]([^\W\d_]+)")
MASK_TAILS = frozenset({*MASK_WORDS, "masks", "trimap", "gt", "groundtruth", "matte", "depth", "annotation"})
"""Endings that turn a picture's name into its mask's."""
ENOUGH, SHARED, SEEN = 0.95, 0.9, 0.5
"""Least shares: of names with a label, and of labels that repeat, for a sure guess; of names with a label for any guess."""
SHOWN = 3
GENERIC = frozenset({
    "img", "image", "images", "imgs", "pic", "pics", "picture", "pictures", "photo", "photos", "foto", "fotos", "bild", "p",
    "dsc", "dscn", "dscf", "dsci", "dcim", "imgp", "dji", "gopr", "gp", "gh", "pxl", "mvimg", "pano", "burst", "cimg", "sam",
    "scan", "scanned", "screenshot", "screen", "shot", "snapshot", "snap", "capture", "whats", "whatsapp", "app", "fb",
    "received", "signal", "telegram", "file", "files", "sample", "samples", "example", "untitled", "unnamed", "download",
    "copy", "crop", "frame", "frames", "seq", "sequence", "video", "vid", "clip", "cam", "camera", "page", "tile", "patch",
    "render", "rendered", "output", "out", "result", "gen", "generated", "seed", "item", "data", "wallpaper", "new", "final",
    "at", "am", "pm", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    "id", "no", "nr", "number", "index", "idx", "thumb", "orig", "original", "edited",
})  # fmt: skip
"""Words that cameras and programs put into names; they are not labels."""
SIDES = frozenset({
    "left", "right", "front", "back", "top", "bottom", "small", "large", "thumb", "thumbnail", "lr", "hr", "low", "high",
    "input", "target", "source", "before", "after",
})  # fmt: skip
"""Words for parts: views and versions of one picture."""


@dataclass(frozen=True)
class NameLabels:
    """A guess.

    Attributes:
        labels: image → label.
        doubt: why it is not sure (numbered, few, splits or parts), or "".
    """

    labels: Mapping[str, str]
    doubt: str

    def counts(self) -> str:
        """`cat 12, dog 12 and 3 others`."""
        found = sorted(Counter(self.labels.values()).items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{label} {count:,}" for label, count in found[:SHOWN])
        return shown if len(found) <= SHOWN else f"{shown} and {len(found) - SHOWN:,} others"


def labels_in_names(names: Iterable[str]) -> NameLabels | None:
    """The labels that names seem to contain; None if there are none: `0001.jpg`, `IMG_1.jpg` beside `DSC_2.jpg`."""
    asked = list(names)
    found = [guess for guess in (_front(asked), _back(asked)) if guess is not None]
    return max(found, key=lambda guess: (not guess.doubt, len(guess.labels)), default=None)


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def _front(names: list[str]) -> NameLabels | None:
    labels = {name: match[1] for name in names if (match := FRONT.fullmatch(_stem(name)))}
    return _judged(labels, len(names))


def _back(names: list[str]) -> NameLabels | None:
    found = {name: match for name in names if (match := BACK.fullmatch(_stem(name)))}
    numbers = Counter(match[1] for match in found.values())
    labels = {name: match[2] for name, match in found.items()}
    if 2 * sum(count for count in numbers.values() if count > 1) <= len(found):
        return _judged(labels, len(names))
    several = len(set(labels.values())) > 1 and 2 * len(labels) >= len(names)
    return NameLabels(labels, "parts") if several and not masks_among(names) else None


def _judged(found: Mapping[str, str], total: int) -> NameLabels | None:
    cleaned = {label: label_text(label.strip(" ._-"), "", "") or "" for label in set(found.values())}
    good = {label: clean for label, clean in cleaned.items() if _may_be_label(clean)}
    labels = {name: good[label] for name, label in found.items() if label in good}
    counts = Counter(labels.values())
    shared = sum(count for count in counts.values() if count > 1)
    if len(counts) < 2 or len(labels) < SEEN * total or shared < SHARED * len(labels):
        return None
    return NameLabels(labels, _doubt(counts, len(labels) / total))


def _may_be_label(label: str) -> bool:
    if WORDNET.fullmatch(label):
        return True
    words = words_of(label)
    return A_WORD.search(label) is not None and not (words and all(word in GENERIC for word in words))


def _doubt(counts: Mapping[str, int], share: float) -> str:
    parts = [label for label in counts if set(words_of(label)) & {*PARTS, *MASK_WORDS, *SIDES}]
    if 2 * len(parts) >= len(counts):
        return "parts"
    if any(begins_like_split(label) for label in counts) or any(splits_of(counts).values()):
        return "splits"
    words = {re.sub(r"[\W\d_]+", "", label).casefold() for label in counts}
    if 2 * len(words) <= len(counts) and not all(map(WORDNET.fullmatch, counts)):
        return "numbered"
    return "few" if share < ENOUGH else ""


def masks_among(names: Sequence[str]) -> list[str]:
    """Names of masks beside their pictures: `0001_mask.png` beside `0001.jpg` or `0001_image.png`."""
    masks = {}
    for name in names:
        match = MASK_TAIL.fullmatch(name.rpartition(".")[0])
        if match and match[2].lower() in MASK_TAILS:
            masks[name] = match[1]
    if not masks:
        return []
    wanted = dict.fromkeys(masks.values(), 0)
    for name in names:  # again, because few of millions of names are like a mask's
        stem = name.rpartition(".")[0]
        match = MASK_TAIL.fullmatch(stem)
        for rest in (stem, *([match[1]] if match else [])):
            if rest in wanted:
                wanted[rest] += 1
    return [name for name, rest in masks.items() if wanted[rest] > 1]


def told_names(found: NameLabels | None) -> str:
    """A note about labels in names that were not read; "" if there are none."""
    if found is None:
        return ""
    if found.doubt == "splits":
        words = {
            word for label in set(found.labels.values()) for word in words_of(label) if word in SPLIT_WORDS
        }
        pattern = "|".join(sorted(words, key=lambda word: (-len(word), word)))
        return (
            f"file names speak of splits ({found.counts()}), and are not read: shard.kind: file_names with "
            f"shard.columns: {{split: '(?i)({pattern})'}} divides them"
        )
    if found.doubt == "parts":
        return (
            f"file names end like parts of one data set ({found.counts()}), and all are images of it: a text list of the "
            "photographs alone may be shard.source"
        )
    return (
        f"file names look like labels ({found.counts()}), and are not read: shard.kind: file_names takes them"
    )

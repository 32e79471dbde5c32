"""Finds images by the names in tables: paths, base names, stems, also as spreadsheets and other systems alter them."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cached_property
from urllib.parse import unquote

from shards.layouts.formats import PICTURES

FRAGMENT = re.compile(r"#\d+$")
"""Flickr's `NAME.jpg#0`: the number of a caption."""
WEB = re.compile(r"[a-z][a-z0-9+]{1,9}://[^\t,;|]+", re.IGNORECASE)
Found = dict[str, str | None]
"""A form of the name → the image; None if several images share it."""


class NameIndex:
    """Images by path, and, if unique, by base name and by stem.

    If none of these matches: by the last folder and the stem (`apple_pie/1005649`), by the name in any case and Unicode
    form (a Mac's file names use another form than its tables), and by number (a spreadsheet turns 000007 into 7).
    """

    def __init__(self, names: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        self.names, self._aliases = frozenset(names), aliases or {}
        self._bases: Found = {}
        self._stems: Found = {}
        for name in self.names:
            base = name.rpartition("/")[2]
            _put(self._bases, base, name)
            _put(self._stems, base.rpartition(".")[0] or base, name)

    def find(self, text: object, folder: str = "") -> str | None:
        """The image that a table in `folder` refers to by this text; None if there are none or several."""
        if isinstance(text, bool) or not isinstance(text, (str, int)):
            return None
        path = FRAGMENT.sub("", _address(str(text).strip()).replace("\\", "/")).removeprefix("./")
        for whole in (self._aliases.get(path), folder + path, path):
            if whole in self.names:
                return whole
        base = path.rpartition("/")[2]
        if self._bases.get(base):
            return self._bases[base]
        stem = _stem(base)
        if base not in self._bases and self._stems.get(stem):
            return self._stems[stem]
        return self._otherwise(path, base, stem) if base else None

    def is_ambiguous(self, text: object) -> bool:
        """Whether several images have this base name."""
        base = str(text).strip().replace("\\", "/").rpartition("/")[2]
        return base in self._bases or _stem(base) in self._stems

    def _otherwise(self, path: str, base: str, stem: str) -> str | None:
        if "/" in path and (found := self._tails.get(_tail(path, stem))):
            return found
        if base in self._bases or stem in self._stems:
            return None  # several
        form = _form(base)
        found = self._forms.get(form) or self._forms.get(_stem(form))
        return found or (self._numbers.get(int(stem)) if stem.isdecimal() else None)

    @cached_property
    def _tails(self) -> Found:
        found: Found = {}
        for name in self.names:
            _put(found, _tail(name, _stem(name.rpartition("/")[2])), name)
        return found

    @cached_property
    def _forms(self) -> Found:
        found: Found = {}
        for name in self.names:
            form = _form(name.rpartition("/")[2])
            for key in {form, _stem(form)}:
                _put(found, key, name)
        return found

    @cached_property
    def _numbers(self) -> dict[int, str | None]:
        found: dict[int, str | None] = {}
        for stem, name in self._stems.items():
            if stem.isdecimal():
                found[int(stem)] = None if int(stem) in found else name
        return found


def _address(text: str) -> str:
    """A web address's decoded path, without the part after `?` or `#`; any other text unchanged."""
    if not WEB.fullmatch(text):
        return text
    _, slash, path = re.split("[?#]", text.partition("://")[2])[0].partition("/")
    return unquote(slash + path)


def _put(found: Found, key: str, name: str) -> None:
    found[key] = None if key in found else name


def _stem(base: str) -> str:
    """A base name without a picture's extension."""
    stem, dot, extension = base.rpartition(".")
    return stem if dot and stem and f".{extension}".lower() in PICTURES else base


def _tail(path: str, stem: str) -> str:
    """The last folder and the stem."""
    return f"{path.rpartition('/')[0].rpartition('/')[2]}/{stem}"


def _form(base: str) -> str:
    return unicodedata.normalize("NFC", base).casefold()

"""Reads files that are too large for memory: bytes in chunks, and the arrays of a JSON object one element at a time."""

import codecs
import json
import os
import re
from collections.abc import Iterator
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import Any

from shards.layouts.listed import Location
from workspace.errors import UserError

CHUNK = 1 << 20
"""Bytes that are read at a time."""
MOST_ELEMENT = 1 << 26
"""Longest element in characters, so that a damaged file is not read whole before its error is found."""
SPACE = " \t\n\r"
NUMBER = re.compile(r"[-+.\deE]+")
"""The signs of a number, which may continue in the next chunk: `1`, `1.`, `1.5`, `1.5e`, `1.5e3`."""
EMPTY = object()
"""The one element of an empty array."""


def chunks_of(place: Location) -> Iterator[bytes]:
    """The bytes of a file or a part of one, in order; compressed members of a zip are read whole.

    Raises:
        OSError: as `Location.read` does.
    """
    if place.inflated >= 0 or not Path(place.path).is_file():
        yield place.read()
        return
    with Path(place.path).open("rb") as file:
        file.seek(place.offset)
        left = os.fstat(file.fileno()).st_size - place.offset if place.length < 0 else place.length
        while left > 0 and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            yield data


def elements(chunks: Iterator[bytes], where: str) -> Iterator[tuple[str, Any, bool]]:
    """What a JSON object holds: for each key its value, or if that is an array its elements one by one.

    Yields:
        The key, the value or element, and whether it is an element; of an empty array that is `EMPTY`.

    Raises:
        UserError: not JSON, or no object.
    """
    text = _Text(chunks, where)
    text.expect("{")
    if text.peek() == "}":
        text.end()
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise text.wrong("a key must be a string")
        text.expect(":")
        if text.peek() == "[":
            for element in text.array():
                yield key, element, True
        else:
            yield key, text.value(), False
        if text.one_of(",}") == "}":
            text.end()
            return


class _Text:
    """JSON text of which a part is in memory."""

    def __init__(self, chunks: Iterator[bytes], where: str) -> None:
        self.chunks, self.where = chunks, where
        self.decoder, self.utf8 = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")()
        self.text, self.place, self.whole = "", 0, False

    def wrong(self, why: str) -> UserError:
        return UserError(f"{self.where}: Invalid JSON: {why}")

    def more(self) -> bool:
        """Take the next chunk; False at the end."""
        if self.whole:
            return False
        data = next(self.chunks, None)
        self.whole = data is None
        try:
            added = self.utf8.decode(data or b"", final=self.whole)
        except UnicodeDecodeError as error:
            raise self.wrong(f"not UTF-8: {error.reason}") from error
        self.text, self.place = self.text[self.place :] + added, 0
        return True

    def peek(self) -> str:
        """The next character after white space; "" at the end."""
        while True:
            while self.place < len(self.text):
                if self.text[self.place] not in SPACE:
                    return self.text[self.place]
                self.place += 1
            if not self.more():
                return ""

    def one_of(self, signs: str) -> str:
        """Take one of some characters."""
        found = self.peek()
        if not found or found not in signs:
            raise self.wrong(f"expected {' or '.join(signs)}, found {found or 'the end'}")
        self.place += 1
        return found

    def expect(self, sign: str) -> None:
        """Take a character."""
        self.one_of(sign)

    def end(self) -> None:
        """Take the last character of the object; nothing may follow."""
        if self.peek() == "}":
            self.place += 1
        if found := self.peek():
            raise self.wrong(f"trailing characters {found!r}")

    def array(self) -> Iterator[Any]:
        """Take an array; yields its elements, or `EMPTY` once."""
        self.expect("[")
        if self.peek() == "]":
            self.place += 1
            yield EMPTY
            return
        while True:
            yield self.value()
            if self.one_of(",]") == "]":
                return

    def value(self) -> Any:
        """Take a value."""
        if not self.peek():
            raise self.wrong("it ends inside")
        while True:
            try:
                found, end = self.decoder.raw_decode(self.text, self.place)
            except RecursionError:
                raise self.wrong("nested too deeply") from None
            except JSONDecodeError as error:
                why = error.msg
            else:
                number = NUMBER.match(self.text, self.place)
                if self.whole or (number.end() if number else end) < len(self.text):
                    self.place = end
                    return found
                why = ""
            if len(self.text) - self.place > MOST_ELEMENT or (not self.more() and why):
                raise self.wrong(why or f"an element of more than {MOST_ELEMENT:,} characters")

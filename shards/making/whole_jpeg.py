"""A JPEG that may be stored as it is: nothing unusual in it, and whole as far as its markers tell (ITU-T T.81, annexes B and C).

Decoding notices little more than this. Inside a scan libjpeg takes any bits for a picture (zeroed or random bytes pass, with a
warning), so what it refuses is a missing end, a table that is missing or wrong, and a marker where none may be: all of that
is in the markers.

The answer is "whole" or "look closer", never "broken": the caller decodes whatever is not known to be whole.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

START, END = b"\xff\xd8", b"\xff\xd9"
MARKER = re.compile(b"\xff[^\x00]")
"""In a scan a byte 255 is followed by 0, or begins a marker."""
JFIF = re.compile(rb"JFIF\0\x01[\0-\x02][\0-\x02].{4}\0\0", re.DOTALL)
"""A JFIF segment without a thumbnail: version 1, any unit and density."""
QUANTIZATION, HUFFMAN, INTERVAL, BASELINE, EXTENDED, SCAN, APPLICATION_0 = (
    0xDB,
    0xC4,
    0xDD,
    0xC0,
    0xC1,
    0xDA,
    0xE0,
)
SAMPLINGS = (0x11, 0x12, 0x21, 0x22)
"""Pixels of brightness for one of colour, across and down: 4:4:4, 4:4:0, 4:2:2, 4:2:0."""
SCAN_MARKER, SCAN_BYTES = b"\xff\xda", 14
"""What begins the scan of three components, and how many bytes say which tables it takes."""
WHOLE_SPECTRUM = bytes((0, 63, 0))
MOST_DIFFERENCE = 15
"""Bits of a DC difference at most; libjpeg refuses a table that has more."""


def is_whole(data: bytes, size: int) -> bool:
    """Whether bytes are a plain JPEG of `size` × `size` pixels: sequential, 8 bits, three components in one scan, all tables
    there and right, no marker in the scan but restarts in their order, the end mark last, and no comment, EXIF or profile.

    Args:
        data: a file's bytes, whatever they are.
        size: pixels per side that it must have.
    """
    scan = data.find(SCAN_MARKER)
    end = scan + SCAN_BYTES
    if not data.startswith(START) or not data.endswith(END) or not 0 < scan < end < len(data):
        return False
    restarts = _restarts(data[:end], size)
    if restarts is None:
        return False
    for number in range(restarts):
        found = MARKER.search(data, end)
        if found is None or data[found.start() + 1] != 0xD0 + number % 8:
            return False
        end = found.end()
    found = MARKER.search(data, end)
    return found is not None and found.start() == len(data) - len(END)


@lru_cache(256)
def _restarts(head: bytes, size: int) -> int | None:
    """Restart markers that a scan must have after these segments, its own the last; None where one is unusual or wrong.

    Cached, because most files of a data set have the same head as the one before: one program wrote them.
    """
    tables, place = _Tables(), len(START)
    while head[place : place + 1] == b"\xff" and place + 4 <= len(head):
        kind, length = head[place + 1], int.from_bytes(head[place + 2 : place + 4], "big")
        segment, place = head[place + 4 : place + 2 + length], place + 2 + length
        if len(segment) != length - 2:
            return None
        if kind == SCAN:
            return tables.restarts(size) if place == len(head) and tables.fit(segment, size) else None
        if not tables.take(kind, segment):
            return None
    return None


@dataclass
class _Tables:
    """The content of the segments before a scan.

    Attributes:
        quantization: numbers of its tables.
        huffman: numbers of its tables: 0 … 3 for DC, 16 … 19 for AC.
        interval: MCUs between restarts, 0 none.
        frame: the frame's segment, empty before it came.
        named: whether a JFIF segment came.
    """

    quantization: set[int] = field(default_factory=set)
    huffman: set[int] = field(default_factory=set)
    interval: int = 0
    frame: bytes = b""
    named: bool = False

    def take(self, kind: int, segment: bytes) -> bool:
        """Take note of a segment; False where it is unusual or wrong."""
        if kind in (QUANTIZATION, HUFFMAN):
            found = _quantization(segment) if kind == QUANTIZATION else _huffman(segment)
            (self.quantization if kind == QUANTIZATION else self.huffman).update(found)
            return bool(found)
        if kind in (BASELINE, EXTENDED) and not self.frame:
            self.frame = segment
            return len(segment) == 15
        if kind == INTERVAL and len(segment) == 2:
            self.interval = int.from_bytes(segment, "big")
            return True
        if kind == APPLICATION_0 and not (self.named or self.frame or self.quantization):
            self.named = True
            return JFIF.fullmatch(segment) is not None
        return False

    def fit(self, scan: bytes, size: int) -> bool:
        """Whether the frame is of that size, and each table that it and the scan ask for is there."""
        if self.frame[:6] != bytes((8, *size.to_bytes(2), *size.to_bytes(2), 3)):
            return False
        components, chosen = self.frame[6:], scan[1:7]
        return (
            (scan[:1], scan[7:]) == (b"\x03", WHOLE_SPECTRUM)
            and components[0::3] == chosen[0::2] == b"\x01\x02\x03"
            and components[1] in SAMPLINGS
            and components[4] == components[7] == 0x11
            and self.quantization.issuperset(components[2::3])
            and all(byte >> 4 in self.huffman and byte & 15 | 16 in self.huffman for byte in chosen[1::2])
        )

    def restarts(self, size: int) -> int:
        """Restart markers that the scan must have: one after each interval of MCUs but the last."""
        across, down = (8 * part for part in divmod(self.frame[7], 16))
        blocks = -(-size // across) * -(-size // down)
        return -(-blocks // self.interval) - 1 if self.interval else 0


def _quantization(segment: bytes) -> frozenset[int]:
    """Numbers of the 8-bit tables of a segment; none where one is unusual, zero divides, or bytes are over."""
    tables = [segment[first : first + 65] for first in range(0, len(segment), 65)]
    right = all(len(table) == 65 and table[0] < 4 and 0 not in table[1:] for table in tables)
    return frozenset(table[0] for table in tables) if right else frozenset()


def _huffman(segment: bytes) -> frozenset[int]:
    """Numbers of the tables of a segment; none where one is not a code of prefixes (annex C), or bytes are over."""
    found, place = set(), 0
    while place < len(segment):
        number, counts = segment[place], segment[place + 1 : place + 17]
        place += 17 + sum(counts)
        symbols = segment[place - sum(counts) : place]
        right = number & ~0x13 == 0 and len(counts) == 16 and len(symbols) == sum(counts) <= 256
        if not right or not _is_code(counts) or (number < 16 and max(symbols, default=0) > MOST_DIFFERENCE):
            return frozenset()
        found.add(number)
    return frozenset(found)


def _is_code(counts: bytes) -> bool:
    """Whether these numbers of code words of 1 … 16 bits can be assigned in order; none may be all ones."""
    code = 0
    for bits, count in enumerate(counts, start=1):
        code += count
        if count and code >= 1 << bits:
            return False
        code <<= 1
    return any(counts)

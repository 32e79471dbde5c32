"""Laws of what passes without decoding: never more than decoding lets pass, and everything that is plain and undamaged."""

import io
import random
from collections import Counter
from collections.abc import Callable

import pytest
from PIL import Image

from shards.images.opening import NO_IMAGE
from shards.making.pictures import PLAIN_JPEG, Encoding, encode_image
from shards.making.whole_jpeg import END, is_whole
from tests.shards.test_pictures import photograph, saved

SIDE = 48
JPG = Encoding(SIDE, "jpg", 90)
PLAIN: dict[str, dict[str, object]] = {
    "4:2:0": {},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "restarts": {"restart_marker_blocks": 2},
    "own tables": {"optimize": True},
    "coarse": {"quality": 30},
    "fine": {"quality": 98},
}
HEAD: Callable[[bytes], int] = lambda data: data.index(b"\xff\xda") + 14  # noqa: E731  where the scan's bytes begin


def plain(name: str, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    return saved(photograph(size), "jpeg", **({"quality": 90} | PLAIN[name]))


def segments(data: bytes) -> list[tuple[int, int]]:
    """Where each segment before the scan begins and ends."""
    found, place = [], 2
    while place < HEAD(data):
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        found.append((place, end))
        place = end
    return found


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))] + draw.choice([b"", END])


def flipped(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def changed_head(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(HEAD(data))
    return data[:place] + draw.randbytes(1) + data[place + 1 :]


def hole(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + data[place + draw.randrange(1, 300) :]


def overwritten(data: bytes, draw: random.Random) -> bytes:
    place, length = draw.randrange(HEAD(data), len(data) - 2), draw.randrange(1, 200)
    filling = draw.choice([bytes, draw.randbytes])(length)
    return (data[:place] + filling)[: len(data) - 2] + data[place + length : -2] + END


def without_a_segment(data: bytes, draw: random.Random) -> bytes:
    start, end = draw.choice(segments(data))
    return data[:start] + data[end:]


def twice_a_segment(data: bytes, draw: random.Random) -> bytes:
    (start, end), (place, _) = draw.choice(segments(data)), draw.choice(segments(data))
    return data[:place] + data[start:end] + data[place:]


def inserted(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + draw.randbytes(draw.randrange(1, 5)) + data[place:]


def a_marker_in_the_scan(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(HEAD(data), len(data) - 4)
    return data[:place] + bytes([255, draw.randrange(1, 256)]) + data[place + 2 :]


def glued(data: bytes, draw: random.Random) -> bytes:
    other = plain(draw.choice(list(PLAIN)))
    place = draw.choice([len(data), len(data) - 2, draw.randrange(len(data))])
    return data[:place] + other[draw.choice([0, 2, HEAD(other)]) :]


DAMAGES = (
    cut,
    flipped,
    changed_head,
    hole,
    overwritten,
    without_a_segment,
    twice_a_segment,
    inserted,
    a_marker_in_the_scan,
    glued,
)


def decodes(data: bytes, smaller: bool) -> bool:
    """Whether Pillow takes it for a plain picture of the size and decodes it, whole or at 1/8 in grey."""
    try:
        image = Image.open(io.BytesIO(data))
        facts = (image.format, image.mode, image.size, image.info.keys() <= PLAIN_JPEG)
        if smaller:
            image.draft("L", (1, 1))
        image.load()
    except NO_IMAGE:
        return False
    return facts == ("JPEG", "RGB", (SIDE, SIDE), True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_that_decoding_refuses_passes(damage: Callable[[bytes, random.Random], bytes]) -> None:
    draw = random.Random(damage.__name__)
    whole = [plain(name) for name in PLAIN]
    told = Counter[bool]()
    for data in whole * 40:
        data = damage(data, draw)
        told[is_whole(data, SIDE)] += 1
        if is_whole(data, SIDE):
            assert decodes(data, smaller=True) and decodes(data, smaller=False), data.hex()
    assert told[False]  # the rest is what libjpeg decodes too: bits inside a scan


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_picture_passes_and_only_at_its_size(name: str) -> None:
    data = plain(name)
    assert is_whole(data, SIDE) and not is_whole(data, SIDE + 1)
    assert encode_image(data, JPG) is data
    for size in ((SIDE, SIDE + 8), (SIDE - 8, SIDE)):
        assert not is_whole(plain(name, size), SIDE)
        frame = segments(data)[[data[start + 1] for start, _ in segments(data)].index(0xC0)][0]
        wrong = (
            data[: frame + 5] + size[1].to_bytes(2, "big") + size[0].to_bytes(2, "big") + data[frame + 9 :]
        )
        assert not is_whole(wrong, SIDE)


def patched(data: bytes, marker: int, offset: int, value: int) -> bytes:
    """A byte of the first segment of a kind, replaced; offset 1 is its marker."""
    start = next(start for start, _ in segments(data) if data[start + 1] == marker)
    return data[: start + offset] + bytes([value]) + data[start + offset + 1 :]


def unusual() -> dict[str, bytes]:
    """Files that must be looked at more closely."""
    image, exif = photograph((SIDE, SIDE)), Image.Exif()
    exif[0x0112] = 6
    data = plain("4:2:0")
    return {
        "progressive": saved(image, "jpeg", progressive=True),
        "CMYK": saved(image.convert("CMYK"), "jpeg"),
        "grey": saved(image.convert("L"), "jpeg"),
        "RGB components": saved(image, "jpeg", keep_rgb=True),
        "EXIF": saved(image, "jpeg", exif=exif),
        "comment": saved(image, "jpeg", comment=b"secret"),
        "profile": saved(image, "jpeg", icc_profile=b"x" * 200),
        "MPO": saved(image, "mpo", save_all=True, append_images=[image]),
        "12 bits": patched(data, 0xC0, 4, 12),
        "arithmetic": patched(data, 0xC0, 1, 0xC9),
        "lossless": patched(data, 0xC0, 1, 0xC3),
        "more after the end": data + b"more",
        "a table of other bits": patched(data, 0xDB, 4, 0x10),
        "a divisor of zero": patched(data, 0xDB, 9, 0),
        "no code of prefixes": patched(data, 0xC4, 5, 3),
        "a table that is not there": patched(data, 0xC0, 12, 3),
        "PNG": saved(image, "png"),
        "nothing": b"",
    }


@pytest.mark.parametrize(("name", "data"), unusual().items())
def test_what_is_unusual_is_decoded(name: str, data: bytes) -> None:
    assert not is_whole(data, SIDE)


def test_what_is_unusual_and_decodes_is_not_lost() -> None:
    for name, data in unusual().items():
        if name in (
            "progressive",
            "CMYK",
            "grey",
            "RGB components",
            "EXIF",
            "comment",
            "profile",
            "MPO",
            "PNG",
        ):
            made = encode_image(data, JPG)
            assert Image.open(io.BytesIO(made)).size == (SIDE, SIDE), name

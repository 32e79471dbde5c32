"""Laws of reading what is too large for memory: in parts of any size it gives what reading it whole does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.layouts.coco import list_coco
from shards.layouts.image_table import Texts, in_order
from shards.layouts.listed import Source, clean_caption
from shards.layouts.reading import Reading
from shards.layouts.streams import EMPTY, elements
from shards.layouts.walking import sorted_by_kind
from workspace.errors import UserError

WORDS = st.text(st.characters(blacklist_characters="\0"), max_size=9)
CAPTIONS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=9)
"""Without lone surrogates: COCO's reader refuses them."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """The bytes in parts."""
    return (data[first : first + size] for first in range(0, len(data), size))


def gathered(data: bytes, size: int) -> dict[str, Any]:
    """A JSON object, put together from its elements; the last of equal keys counts, as in Python's own reader."""
    found: dict[str, Any] = {}
    for key, value, is_element in elements(cut(data, size), "a.json"):
        if not is_element:
            found[key] = value
        else:
            found.setdefault(key, []).extend([] if value is EMPTY else [value])
    return found


@given(st.dictionaries(WORDS, VALUES, max_size=4), st.integers(1, 40), st.booleans())
def test_elements_are_those_of_the_whole_object(value: dict[str, Any], size: int, escaped: bool) -> None:
    try:
        data = json.dumps(value, ensure_ascii=escaped, indent=size % 3 or None).encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8, only an escape
        return
    assert gathered(data, size) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "expected {, found the end"),
        (b"[1]", r"expected \{, found \["),
        (b'{"a": [1, 2', "expected , or ], found the end"),
        (b'{"a": [1 2]}', "expected , or ], found 2"),
        (b'{"a": [1,]}', "Expecting value"),
        (b'{"a" 1}', "expected :, found 1"),
        (b"{1: 2}", "a key must be a string"),
        (b'{"a": 1} x', "trailing characters 'x'"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_named(data: bytes, why: str) -> None:
    with pytest.raises(UserError, match=rf"a\.json: Invalid JSON: .*{why}"):
        gathered(data, 7)


@given(st.lists(WORDS, max_size=20))
def test_texts_are_ordered_by_code_points(words: list[str]) -> None:
    texts = Texts.of(words)
    assert list(texts) == words
    assert in_order(texts).tolist() == sorted(range(len(words)), key=words.__getitem__)


IDS = st.integers(0, 5) | st.sampled_from(["a", "b", 1 << 70])
NAMES = st.sampled_from(["1.jpg", "2.jpg", "é.jpg", "sub/1.jpg"])
FILES = st.lists(
    st.tuples(st.lists(st.tuples(IDS, NAMES), max_size=6), st.lists(st.tuples(IDS, CAPTIONS), max_size=8)),
    min_size=1,
    max_size=2,
)
THERE = st.lists(
    st.sampled_from(["1.jpg", "2.jpg", "images/1.jpg", "train2017/1.jpg", "other.jpg"]), unique=True
)


def expected(files: Any, there: list[str]) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """Name → captions, from the whole files; and the images in two splits."""
    found: dict[str, tuple[str | None, tuple[str, ...]]] = {}
    torn = set()
    for number, (images, captions) in enumerate(files):
        folder, split = ("train2017", "train") if number == 0 else ("more", None)
        for key, name in images:
            texts = [
                clean_caption(text) for owner, text in captions if owner == key and type(owner) is type(key)
            ]
            places = [f"{part}{name}" for part in (f"{folder}/", f"images/{folder}/", "images/", "")]
            place = next((one for one in places if one in there), places[0])
            other = found.get(place, (split, ()))
            if other[0] != split:
                torn.add(place)
            found[place] = (split, tuple(dict.fromkeys([*other[1], *filter(None, texts)])))
    return {name: captions for name, (_, captions) in sorted(found.items())}, torn


@given(FILES, THERE, st.integers(1, 60))
def test_coco_read_in_parts_is_coco_read_whole(
    tmp_path_factory: pytest.TempPathFactory, files: Any, there: list[str], size: int
) -> None:
    root = tmp_path_factory.getbasetemp() / "coco"
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    names = []
    for name, (images, captions) in zip(("train2017", "more"), files, strict=False):
        value = {
            "info": {"year": 2017},
            "annotations": [{"image_id": key, "caption": text, "id": 7} for key, text in captions],
            "images": [{"id": key, "file_name": name, "height": 3} for key, name in images],
        }
        names.append(f"annotations/captions_{name}.json")
        (root / names[-1]).write_text(json.dumps(value))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shards.layouts.streams.CHUNK", size)
        found: Source | str
        try:
            found = list_coco(sorted_by_kind(root, [*names, *there]), Reading(), str(root))
        except UserError as error:
            found = str(error)
    wanted, torn = expected(files, there)
    if isinstance(found, str):
        assert any(f" lists {name}, which another captions file has in" in found for name in torn)
        return
    assert not torn
    assert {image.name: image.captions for image in found.images} == wanted
    assert [image.name for image in found.images] == list(wanted)
    listed = len(set(there) - set(wanted))
    assert found.passed_over.get("in no captions file", 0) == listed


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"images": []}, "annotations: Field required"),
        ({"images": {}, "annotations": []}, "images: Input should be a valid array"),
        ({"images": [{"id": 1}], "annotations": []}, r"images\.0: file_name: Field required"),
        ({"images": [], "annotations": [{"image_id": True, "caption": "a"}]}, r"annotations\.0: image_id.*"),
        ({"images": [None], "annotations": []}, r"images\.0: "),
    ],
)
def test_an_entry_that_is_not_cocos_is_named(tmp_path: Path, value: Any, why: str) -> None:
    (tmp_path / "annotations").mkdir()
    name = "annotations/captions_train2017.json"
    (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(UserError, match=rf"captions_train2017\.json: {why}"):
        list_coco(sorted_by_kind(tmp_path, [name]), Reading(), str(tmp_path))

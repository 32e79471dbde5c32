"""Laws of captions as codes."""

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.text import TextTokenizer, captions_of
from workspace.errors import UserError
from workspace.exact.tar import TarWriter

WORDS = (
    "a",
    "large",
    "small",
    "red",
    "blue",
    "green",
    "circle",
    "square",
    "star",
    "on",
    "plain",
    "background",
)
CAPTIONS = [" ".join(random.Random(number).choices(WORDS, k=6)) for number in range(200)]


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    """Of some captions, with room for merges."""
    return TextTokenizer.train(CAPTIONS, 300)


def test_the_same_captions_in_any_order_give_the_same_file(tmp_path: Path) -> None:
    files = []
    for number in range(3):
        shuffled = random.Random(number).sample(CAPTIONS, len(CAPTIONS))
        path = tmp_path / f"{number}.json"
        TextTokenizer.train(shuffled, 320).save(path)
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]
    assert json.loads(files[0])["model"]["type"] == "BPE"


def test_code_0_fills_up_captions_and_stands_nowhere_within_them(tokenizer: TextTokenizer) -> None:
    codes = tokenizer.encode(CAPTIONS, 40)
    lengths = tokenizer.lengths(CAPTIONS)
    assert codes.dtype == np.uint16 and codes.shape == (len(CAPTIONS), 40)
    for row, length in zip(codes, lengths, strict=True):
        assert (row[:length] > 0).all() and (row[length:] == 0).all()
    assert codes.max() < tokenizer.vocab <= 300


LETTERS = st.characters(max_codepoint=0x4FF, exclude_categories=("C", "Z")) | st.sampled_from("漢字🙂→")


@given(caption=st.text(LETTERS, max_size=30))
def test_any_text_comes_back_in_lower_case(tokenizer: TextTokenizer, caption: str) -> None:
    length = int(tokenizer.lengths([caption])[0])
    codes = tokenizer.encode([caption], length + 2)[0]
    if "<pad>" not in caption:
        expected = lowered(unicodedata.normalize("NFC", caption))
        assert tokenizer.decode(codes.tolist()) == expected


def lowered(text: str) -> str:
    """Lower case, character by character: what the tokenizer's normalizer does (no final-sigma rule)."""
    return "".join(character.lower() for character in text)


def test_captions_are_learned_as_fewer_codes_than_bytes(tokenizer: TextTokenizer) -> None:
    assert tokenizer.lengths(CAPTIONS).sum() < 0.5 * sum(len(caption) for caption in CAPTIONS)


def test_a_long_caption_is_cut_to_its_first_codes(tokenizer: TextTokenizer) -> None:
    whole = tokenizer.encode(CAPTIONS, 60)
    np.testing.assert_array_equal(tokenizer.encode(CAPTIONS, 3), whole[:, :3])


def test_lists_of_captions_are_padded_to_the_most_that_any_image_has(tokenizer: TextTokenizer) -> None:
    lists = [CAPTIONS[:2], [], CAPTIONS[2:5]]
    codes = tokenizer.encode_lists(lists, 3, 7)
    assert codes.shape == (3, 3, 7) and codes.dtype == np.uint16
    np.testing.assert_array_equal(codes[0, :2], tokenizer.encode(CAPTIONS[:2], 7))
    assert not codes[0, 2].any() and not codes[1].any()
    np.testing.assert_array_equal(codes[2], tokenizer.encode(CAPTIONS[2:5], 7))


def test_a_saved_tokenizer_gives_the_same_codes(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    tokenizer.save(tmp_path / "text_tokenizer.json")
    again = TextTokenizer.load(tmp_path / "text_tokenizer.json")
    np.testing.assert_array_equal(again.encode(CAPTIONS, 9), tokenizer.encode(CAPTIONS, 9))
    assert again.vocab == tokenizer.vocab


def test_captions_are_read_from_a_shard_without_its_images(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "000000.tar") as tar:
        tar.add("0001.png", b"not a picture")
        tar.add("0001.txt", "a café\na bar".encode())
        tar.add("0002.png", b"nor this")
        tar.add("0003.txt", b"a third")
    assert list(captions_of(tmp_path / "000000.tar")) == [("a café", "a bar"), ("a third",)]


def test_mistakes_are_told_with_the_setting_that_mends_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenize\.text_vocab asks for captions.*have none; set it to 0"):
        TextTokenizer.train([], 300)
    with pytest.raises(UserError, match=r"text_vocab is 256; expected ≥ 257"):
        TextTokenizer.train(CAPTIONS, 256)
    with pytest.raises(UserError, match=r"text_tokenizer\.json does not exist.*tokenize\.text_vocab"):
        TextTokenizer.load(tmp_path / "text_tokenizer.json")

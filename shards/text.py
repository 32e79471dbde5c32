"""Encodes captions: a byte-level BPE learned on the training captions, with the `tokenizers` library."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from workspace.errors import UserError
from workspace.exact.manifest import atomic_path, read_json
from workspace.exact.tar import read_samples

PAD = "<pad>"


def captions_of(path: Path) -> Iterator[tuple[str, ...]]:
    """The captions of each sample in an image shard that has any, in order; no image is decoded."""
    for key, members in read_samples(path):
        if "txt" in members:
            try:
                yield tuple(members["txt"].decode().splitlines())
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: {key}.txt is not UTF-8: run `dvc repro shard`") from error


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = Normalizers([NFC(), Lowercase()])
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(), ByteLevelDecoder()
    return tokenizer


def _check_pipeline(value: Any, path: Path) -> None:
    """UserError unless a tokenizer's file differs from our untrained one only in its codes: others may contain a
    regular expression that never finishes."""
    ours = json.loads(_untrained().to_str())
    found = value if isinstance(value, dict) else {}
    model: dict[str, Any] = found["model"] if isinstance(found.get("model"), dict) else {}
    same = all(found.get(name) == ours[name] for name in ours if name not in ("model", "added_tokens"))
    learned = ("vocab", "merges")
    same &= {name: model.get(name) for name in ours["model"] if name not in learned} == {
        name: value for name, value in ours["model"].items() if name not in learned
    }
    if not same:
        raise UserError(f"{path} is not one of our text tokenizers: run `dvc repro tokenize`")


@dataclass(frozen=True)
class TextTokenizer:
    """Text → codes in 0 … vocab-1; 0 is padding."""

    tokenizer: Tokenizer

    @classmethod
    def train(cls, captions: Iterable[str], vocab: int) -> "TextTokenizer":
        """Learn at most `vocab` codes (including padding and the 256 bytes); equal captions give equal codes.

        Raises:
            UserError: no captions, or `vocab` is too small for the bytes.
        """
        found = sorted(captions)
        if not found:
            raise UserError(
                "tokenize.text_vocab asks for captions, but the training images have none; set it to 0"
            )
        if vocab < 257:
            raise UserError(
                f"tokenize.text_vocab is {vocab}; expected ≥ 257 (a pad and 256 bytes), or 0 for no captions"
            )
        tokenizer = _untrained()
        trainer = BpeTrainer(
            vocab_size=vocab, special_tokens=[PAD], initial_alphabet=ByteLevel.alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(found, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> "TextTokenizer":
        """Read a file written by `save`; UserError if it does not exist or is damaged."""
        if not path.is_file():
            raise UserError(f"{path} does not exist: these tokens hold no captions (tokenize.text_vocab)")
        _check_pipeline(read_json(path), path)
        try:
            return cls(Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except Exception as error:  # tokenizers raises no narrower type
            raise UserError(f"{path} is not a text tokenizer: {error}") from error

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    @property
    def vocab(self) -> int:
        """Number of codes, including padding."""
        size: int = self.tokenizer.get_vocab_size()
        return size

    def encode(self, captions: Sequence[str], length: int) -> NDArray[np.uint16]:
        """Captions → codes [len(captions), length], truncated or padded with 0."""
        codes = np.zeros((len(captions), length), np.uint16)
        for row, encoded in enumerate(self.tokenizer.encode_batch(list(captions))):
            ids = encoded.ids[:length]
            codes[row, : len(ids)] = ids
        return codes

    def encode_lists(self, captions: Sequence[Sequence[str]], most: int, length: int) -> NDArray[np.uint16]:
        """The captions of B images, at most `most` each → codes [B, most, length], truncated or padded with 0."""
        codes = np.zeros((len(captions), most, length), np.uint16)
        for row, found in enumerate(captions):
            codes[row, : len(found)] = self.encode(found, length)
        return codes

    def lengths(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Each caption's number of codes before truncation: [len(captions)]."""
        return np.array(
            [len(encoded.ids) for encoded in self.tokenizer.encode_batch(list(captions))], np.int64
        )

    def decode(self, codes: Sequence[int]) -> str:
        """Codes → the caption in lower case, without padding (incomplete if it was truncated)."""
        text: str = self.tokenizer.decode([int(code) for code in codes if code])
        return text.strip()

"""Tokens for outsiders: packing codes made elsewhere, merging and choosing, each with its manifest."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.describe import describe
from shards.images import ImageShards
from shards.pack_tokens import Text, pack
from shards.text import TextTokenizer
from shards.token_sets import Choice, merge, subset, table_of
from shards.tokens import TEXT_TOKENIZER, TokenShards
from shards.tokens.blocks import unpack_positions
from shards.verify import verify
from tests.field.table import Field, Row
from tests.hostile.table import ROOT
from tests.tiny import environment
from workspace.errors import UserError

AREA = "tokens for outsiders"
K, GRID, N = 16, (4, 4), 6
Change = Callable[[np.ndarray, np.ndarray], Any]


def arrays(folder: Path, count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes and positions in no order."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, K, (count, N))
    positions = np.stack([rng.permutation(GRID[0] * GRID[1])[:N] for _ in range(count)])
    return codes, positions


def packed(folder: Path, name: str, change: Change | None = None, seed: int = 0, **options: Any) -> Path:
    """Pack arrays, changed first, with 4 images of each of 10 labels where labels are asked for."""
    (folder / name).mkdir(parents=True)
    codes, positions = arrays(folder, seed=seed)
    if change is not None:
        codes, positions = change(codes, positions) or (codes, positions)
    np.save(folder / name / "codes.npy", codes)
    np.save(folder / name / "positions.npy", positions)
    for option in ("labels",):
        if option in options:
            np.save(folder / name / "labels.npy", options[option])
            options[option] = folder / name / "labels.npy"
    for option in ("keys", "class_names", "sources", "captions"):
        if option in options and not isinstance(options[option], Path):
            path = folder / name / f"{option}{options.pop('form', '') if option == 'captions' else ''}"
            path.write_text("\n".join(options[option]) + "\n", encoding="utf-8")
            options[option] = path
    out = folder / name / "set"
    pack(
        folder / name / "codes.npy",
        folder / name / "positions.npy",
        out,
        GRID,
        K,
        val_fraction=0.3,
        **options,
    )
    return out


def refused(work: Callable[[Path], object], folder: Path) -> str:
    """The one line that some work ends in."""
    with pytest.raises(UserError, match=r"\A[^\n]+\Z") as told:
        work(folder)
    return str(told.value).replace(f"{folder}/", "")


def bad(change: Change | None = None, **options: Any) -> Callable[[Field, Path], str]:
    """What is said of such arrays; nothing is left behind."""

    def outcome(field: Field, folder: Path) -> str:
        told = refused(lambda at: packed(at, "a", change, **options), folder)
        assert not (folder / "a" / "set").exists()
        return told

    return outcome


def round_trip(field: Field, folder: Path) -> str:
    out = packed(folder, "a")
    shards = TokenShards.open(out)
    codes, positions = arrays(folder)
    found = {}
    for split in ("train", "val"):
        loaded = shards.load(split)
        places = unpack_positions(loaded.kept, 16, N)
        found |= {
            key: dict(zip(place.tolist(), code.tolist(), strict=True))
            for key, place, code in zip(loaded.keys, places, loaded.codes, strict=True)
        }
    wanted = {
        f"{n:07d}": dict(zip(positions[n].tolist(), codes[n].tolist(), strict=True))
        for n in range(len(codes))
    }
    return f"{len(found)} images, as they were: {found == wanted}; {verify(out).split(': ')[1][:20]}"


def with_labels(field: Field, folder: Path) -> str:
    out = packed(folder, "a", labels=np.arange(40) % 2, class_names=["cat", "dog"])
    return f"classes {TokenShards.open(out).facts.classes}"


def merged(field: Field, folder: Path) -> str:
    labels = np.arange(40) % 2
    one = packed(folder, "a", labels=labels, class_names=["cat", "dog"])
    two = packed(folder, "b", seed=1, labels=labels, class_names=["dog", "owl"])
    merge([one, two], folder / "both")
    shards = TokenShards.open(folder / "both")
    owls = sum(int((shards.load(split).cls == 2).sum()) for split in ("train", "val"))
    return f"{sum(shards.facts.counts.values())} images, classes {shards.facts.classes}, owls {owls}; made from {len(shards.manifest.made_from)}"


def merged_others(field: Field, folder: Path) -> str:
    one = packed(folder, "a")
    two = packed(folder, "b", lambda codes, positions: (codes[:, :4], positions[:, :4]))
    return refused(lambda at: merge([one, two], at / "both"), folder)


def chosen(field: Field, folder: Path) -> str:
    one = packed(folder, "a", labels=np.arange(40) % 4, class_names=["cat", "dog", "owl", "ant"])
    subset(one, folder / "some", Choice(["owl", "cat"]))
    shards = TokenShards.open(folder / "some")
    return f"{sum(shards.facts.counts.values())} images, classes {shards.facts.classes}; {verify(folder / 'some').split(': ')[1][-12:] != ''}"


def counted(field: Field, folder: Path) -> str:
    subset(packed(folder, "a"), folder / "some", Choice(count=5))
    return str(dict(TokenShards.open(folder / "some").facts.counts))


def no_class(field: Field, folder: Path) -> str:
    one = packed(folder, "a", labels=np.arange(40) % 2, class_names=["cat", "dog"])
    return refused(lambda at: subset(one, at / "some", Choice(["owl"])), folder)


SOURCES = [f"cat/{number:03d}.jpg" for number in range(40)]
CAPTIONS = [f"a cat of {number} years" for number in range(40)]
SHORT = Text(vocab=300, length=16)


def captions_of(folder: Path) -> dict[str, tuple[str, ...]]:
    """Source → captions of a set, decoded by its own tokenizer."""
    shards, found = TokenShards.open(folder), dict[str, tuple[str, ...]]()
    tokenizer = TextTokenizer.load(folder / TEXT_TOKENIZER)
    for split in ("train", "val"):
        block = shards.load(split)
        assert block.sources is not None and block.text is not None and block.caption_count is not None
        for source, text, count in zip(block.sources, block.text, block.caption_count, strict=True):
            found[source] = tuple(tokenizer.decode(codes) for codes in text[:count].tolist())
    return found


def with_captions(field: Field, folder: Path) -> str:
    out = packed(folder, "a", captions=CAPTIONS, sources=SOURCES, text=SHORT)
    found = captions_of(out)
    right = found == {source: (caption,) for source, caption in zip(SOURCES, CAPTIONS, strict=True)}
    assert verify(out) and "caption a cat of" in describe(out) and "(cat/0" in describe(out)
    return f"{len(found)} images, captions and sources as they were: {right}"


def with_lists(field: Field, folder: Path) -> str:
    """JSON lines: a text, a list, an empty list, null and an empty line."""
    lines = ['"one"', '["one", "two", ""]', "[]", "null", "", *(json.dumps(text) for text in CAPTIONS[5:])]
    out = packed(folder, "a", captions=lines, form=".jsonl", sources=SOURCES, text=SHORT)
    found = captions_of(out)
    return f"{[found[source] for source in SOURCES[:5]]}"


def captioned_sets(field: Field, folder: Path) -> tuple[Path, Path]:
    """Two sets, the second with the text tokenizer of the first."""
    one = packed(folder, "a", captions=CAPTIONS, sources=SOURCES, text=SHORT)
    others = {"captions": ["a dog", *CAPTIONS[1:]], "sources": [f"dog/{name}" for name in SOURCES]}
    text = Text(length=16, tokenizer=one / TEXT_TOKENIZER)
    return one, packed(folder, "b", seed=1, text=text, **others)


def merged_captions(field: Field, folder: Path) -> str:
    one, two = captioned_sets(field, folder)
    merge([one, two], folder / "both")
    found = captions_of(folder / "both")
    same = found == captions_of(one) | captions_of(two)
    (folder / "wanted").write_text("dog/cat/000.jpg\r\n" + "".join(f"{name}\n" for name in SOURCES[:9]))
    subset(folder / "both", folder / "some", Choice(sources=folder / "wanted"))
    some = captions_of(folder / "some")
    kept = all(some[source] == found[source] for source in some)
    return f"merged {len(found)}, as they were: {same}; chosen {len(some)} by source, as they were: {kept}"


def merged_tokenizers(field: Field, folder: Path) -> str:
    one = packed(folder, "a", captions=CAPTIONS, text=SHORT)
    two = packed(folder, "b", captions=["dogs and owls"] * 40, text=SHORT)
    return refused(lambda at: merge([one, two], at / "both"), folder)


def merged_unnamed(field: Field, folder: Path) -> str:
    one, two = packed(folder, "a", sources=SOURCES), packed(folder, "b", seed=1)
    merge([one, two], folder / "both")
    sources = [
        name
        for split in ("train", "val")
        for name in TokenShards.open(folder / "both").load(split).sources or ()
    ]
    return f"{len(set(sources) & set(SOURCES))} sources known, {sources.count('')} empty"


def tokenized(field: Field, folder: Path) -> str:
    """What the stages made, from pictures to tokens: each copy's source is that of its image's index row."""
    world = field.world()
    shards, tokens = ImageShards.open(world.artifact("shards")), TokenShards.open(world.artifact("tokens"))
    right, count = True, 0
    for split in ("train", "val"):
        sources, block = {row.key: row.source for row in shards.index(split).rows()}, tokens.load(split)
        right &= block.sources == tuple(sources[key.partition("+")[0]] for key in block.keys)
        count += len(block.keys)
    rows = list(table_of(world.artifact("tokens")))
    return f"every source is its image's: {right}; a table with a row for each: {len(rows) == count + 1}, {', '.join(rows[0])}"


def lines_missing(field: Field, folder: Path) -> str:
    one = packed(folder, "a")
    return refused(lambda at: subset(one, at / "some", Choice(keys=at / "gone.txt")), folder)


def one_split(field: Field, folder: Path) -> str:
    one = packed(folder, "a", sources=SOURCES)
    (folder / "wanted").write_text(f"{(TokenShards.open(one).load('train').sources or ())[0]}\n")
    return refused(lambda at: subset(one, at / "some", Choice(sources=at / "wanted")), folder)


def piped(field: Field, folder: Path) -> str:
    """`names | head -1`: the reader goes before the table is out."""
    packed(folder, "a", sources=SOURCES)
    command = f"{sys.executable} -m shards.token_sets names a/set | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(ROOT), capture_output=True, text=True, check=True
    )
    return f"{' '.join(done.stdout.split())}; said beside it: {done.stderr!r}"


def no_such_source(field: Field, folder: Path) -> str:
    one = packed(folder, "a", sources=SOURCES)
    (folder / "wanted").write_text("cat/000.jpg\ncat/999.jpg\n")
    return refused(lambda at: subset(one, at / "some", Choice(sources=at / "wanted")), folder)


def code_17(codes: np.ndarray, positions: np.ndarray) -> None:
    codes[3, 2] = 17


def position_twice(codes: np.ndarray, positions: np.ndarray) -> None:
    positions[5, 1] = positions[5, 0]


ROWS: tuple[Row, ...] = (
    Row("codes and positions made elsewhere, in no order", AREA, "40 images, 6 of 16 cells", "40 images, as they were: True", round_trip),
    Row("packed with labels and class names", AREA, "LABELS.npy, NAMES.txt", "classes ('cat', 'dog')", with_labels),
    Row("a code beyond the codebook", AREA, "17 of K = 16 at row 3", "codes 17 at [3, 2]; expected 0 … 15", bad(code_17)),
    Row("a position twice in a row", AREA, "row 5", "row 5 has position", bad(position_twice)),
    Row("codes and positions of other shapes", AREA, "[40, 6] and [40, 5]", "expected the same", bad(lambda c, p: (c, p[:, :5]))),
    Row("codes that are floats", AREA, "float64", "expected whole numbers: convert it with .astype('int64')", bad(lambda c, p: (c * 1.0, p))),
    Row("codes of three dimensions", AREA, "[40, 2, 3]", "expected 2 dimensions of codes", bad(lambda c, p: (c.reshape(40, 2, 3), p))),
    Row("labels for some images alone", AREA, "39 labels", "39 labels; expected 40, one for each image", bad(labels=np.zeros(39, np.int64))),
    Row("a key twice", AREA, "two lines of KEYS.txt", "has k0 twice", bad(keys=["k0", "k0", *(f"k{n}" for n in range(2, 40))])),
    Row("fewer class names than labels", AREA, "labels 0 … 3, two names", "has 2 lines; expected 4, one class name each", bad(labels=np.arange(40) % 4, class_names=["cat", "dog"])),
    Row("token sets with overlapping classes are merged", AREA, "cat, dog and dog, owl; equal keys", "80 images, classes ('cat', 'dog', 'owl'), owls 20; made from 3", merged),
    Row("token sets of another N do not merge", AREA, "N = 6 and N = 4", "they cannot be merged", merged_others),
    Row("some classes of a token set", AREA, "owl and cat of four", "20 images, classes ('owl', 'cat')", chosen),
    Row("a few images of each split", AREA, "--count 5", "{'train': 5, 'val': 5}", counted),
    Row("packed with captions and source names", AREA, "CAPTIONS.txt, SOURCES.txt; verified, described", "40 images, captions and sources as they were: True", with_captions),
    Row("several captions per image, or none", AREA, "CAPTIONS.jsonl: a text, a list, an empty list, null, an empty line", "[('one',), ('one', 'two'), (), (), ()]", with_lists),
    Row("captions for some images alone", AREA, "39 lines", "39 lines; expected 40, one caption per image (an empty line if it has none)", bad(captions=CAPTIONS[1:], text=SHORT)),
    Row("captions that are not texts", AREA, "CAPTIONS.jsonl with numbers", "captions.jsonl, line 1: ", bad(captions=["3"] * 40, form=".jsonl", text=SHORT)),
    Row("captions of nothing", AREA, "40 empty lines", "has no caption for any training image", bad(captions=[""] * 40, text=SHORT)),
    Row("a text tokenizer that is not there", AREA, "--text-tokenizer gone.json", "gone.json does not exist; expected the text_tokenizer.json of a token set", bad(captions=CAPTIONS, text=Text(tokenizer=Path("gone.json")))),
    Row("source names for some images alone", AREA, "39 lines of SOURCES.txt", "39 lines; expected 40, one image source name each", bad(sources=SOURCES[1:])),
    Row("class names in a file that is not there", AREA, "--class-names gone.txt", "gone.txt cannot be read", bad(labels=np.zeros(40, np.int64), class_names=Path("gone.txt"))),
    Row("captions and sources through merge and subset", AREA, "two sets, one text tokenizer; subset --sources", "merged 80, as they were: True; chosen 10 by source, as they were: True", merged_captions),
    Row("captions of different tokenizers do not merge", AREA, "each learned its own", "have different text tokenizers and cannot be merged; pack one of them with the other's, --text-tokenizer a/set/text_tokenizer.json", merged_tokenizers),
    Row("a set without source names merged with one that has them", AREA, "40 and 40 images", "40 sources known, 40 empty", merged_unnamed),
    Row("file names beside the tokens of the workflow itself", AREA, "shard, train, tokenize; python -m shards.token_sets names", "every source is its image's: True; a table with a row for each: True, split, key, source, class", tokenized),
    Row("a list of keys that is not there", AREA, "subset --keys gone.txt", "gone.txt cannot be read", lines_missing),
    Row("a choice of images of one split alone", AREA, "subset --sources with one training image", "the split val would be empty: a token set needs images in train and in val; choose some of each", one_split),
    Row("a table of names that nobody reads to its end", AREA, "python -m shards.token_sets names SET | head -1", "split key source class; said beside it: ''", piped),
    Row("a source that the set has not", AREA, "subset --sources with cat/999.jpg", "wanted names 1 sources that a/set does not have, such as cat/999.jpg", no_such_source),
    Row("a class that the set has not", AREA, "owl of cat, dog", "has no class owl; it has cat, dog", no_class),
)  # fmt: skip

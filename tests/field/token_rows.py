"""Tokens for outsiders: packing codes made elsewhere, merging and choosing, each with its manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.pack_tokens import pack
from shards.token_sets import merge, subset
from shards.tokens import TokenShards, unpack_positions
from shards.verify import verify
from tests.field.table import Field, Row
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
    for option in ("keys", "class_names"):
        if option in options:
            (folder / name / option).write_text("\n".join(options[option]) + "\n")
            options[option] = folder / name / option
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
        places = unpack_positions(loaded.mask, 16, N)
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
    subset(one, folder / "some", ["owl", "cat"])
    shards = TokenShards.open(folder / "some")
    return f"{sum(shards.facts.counts.values())} images, classes {shards.facts.classes}; {verify(folder / 'some').split(': ')[1][-12:] != ''}"


def counted(field: Field, folder: Path) -> str:
    subset(packed(folder, "a"), folder / "some", count=5)
    return str(dict(TokenShards.open(folder / "some").facts.counts))


def no_class(field: Field, folder: Path) -> str:
    one = packed(folder, "a", labels=np.arange(40) % 2, class_names=["cat", "dog"])
    return refused(lambda at: subset(one, at / "some", ["owl"]), folder)


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
    Row("a key twice", AREA, "two lines of KEYS.txt", "names k0 twice", bad(keys=["k0", "k0", *(f"k{n}" for n in range(2, 40))])),
    Row("fewer class names than labels", AREA, "labels 0 … 3, two names", "has 2 lines; expected 4, a class's name each", bad(labels=np.arange(40) % 4, class_names=["cat", "dog"])),
    Row("token sets with overlapping classes are merged", AREA, "cat, dog and dog, owl; equal keys", "80 images, classes ('cat', 'dog', 'owl'), owls 20; made from 3", merged),
    Row("token sets of another N do not merge", AREA, "N = 6 and N = 4", "such sets do not merge", merged_others),
    Row("some classes of a token set", AREA, "owl and cat of four", "20 images, classes ('owl', 'cat')", chosen),
    Row("a few images of each split", AREA, "--count 5", "{'train': 5, 'val': 5}", counted),
    Row("a class that the set has not", AREA, "owl of cat, dog", "has no class owl; it has cat, dog", no_class),
)  # fmt: skip

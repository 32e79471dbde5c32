"""Who reads token shards without this code: webdataset, numpy alone, a person with `python -m shards.describe`."""

import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.describe import describe, main
from shards.images import SPLITS
from shards.tokens.blocks import ARRAYS, unpack_positions
from tests.shards.random_tokens import USUAL, Written, joined, write
from workspace.errors import UserError
from workspace.exact.manifest import read_json


def test_plain_webdataset_gives_the_same_arrays(usual: Written) -> None:
    webdataset = pytest.importorskip("webdataset")
    for number, block in enumerate(usual.train):
        path = usual.folder / "train" / f"{number:06d}.tar"
        (sample,) = webdataset.WebDataset(str(path), shardshuffle=False).decode()
        assert sample["keys.json"] == list(block.keys)
        for field, dtype in ARRAYS.items():
            assert sample[f"{field}.npy"].dtype == dtype
            np.testing.assert_array_equal(sample[f"{field}.npy"], getattr(block, field))


def lines_of_readme(folder: Path) -> str:
    """The python between the fences of a data set's README."""
    return (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("captions", [0, 2])
@pytest.mark.parametrize("sources", [True, False])
def test_the_lines_in_the_readme_load_the_same_arrays_with_numpy_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: bool, captions: int, sources: bool
) -> None:
    made = write(tmp_path, replace(USUAL, classes=classes, captions=captions, sources=sources))
    lines = lines_of_readme(tmp_path)
    assert len([line for line in lines.splitlines() if line]) <= 12
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(lines, found)
    torch = pytest.importorskip("torch")
    sentence = next(
        line for line in (tmp_path / "README.md").read_text().splitlines() if "torch.from_numpy" in line
    )
    codes, places = eval(sentence.split("`")[1], found | {"torch": torch})
    assert codes.dtype == places.dtype == torch.int64 and codes.shape == places.shape
    assert found["keys"] == [key for block in made.train for key in block.keys]
    np.testing.assert_array_equal(found["codes"], joined(made.train, "codes"))
    expected = unpack_positions(joined(made.train, "kept"), USUAL.length, USUAL.kept)
    np.testing.assert_array_equal(found["positions"], expected)
    assert [name in found for name in ("classes", "captions", "sources")] == [
        classes,
        bool(captions),
        sources,
    ]
    if sources:
        assert found["sources"] == [name for block in made.train for name in block.sources or ()]
    if classes:
        np.testing.assert_array_equal(found["classes"], joined(made.train, "cls"))
    if captions:
        np.testing.assert_array_equal(found["captions"], joined(made.train, "text"))
        np.testing.assert_array_equal(found["caption_count"], joined(made.train, "caption_count"))


def test_the_manifest_states_k_n_the_grid_and_the_counts_as_integers_and_describes_every_member(
    usual: Written,
) -> None:
    facts = read_json(usual.folder / "manifest.json")["facts"]
    assert (facts["num_codes"], facts["num_kept"], facts["grid"]) == (7, 4, [1, 13])
    assert facts["counts"] == {"train": 6, "val": 3}
    blocks = [block for split in SPLITS for block in (usual.folder / split).glob("*.tar")]
    assert set(facts["members"]) == {name.partition(".")[2] for path in blocks for name in names_in(path)}
    for name, text in facts["members"].items():
        field = name.removesuffix(".npy")
        assert field.endswith(".json") or np.dtype(ARRAYS[field]).name in text
    assert all(
        isinstance(number, int)
        for number in (facts["num_codes"], facts["num_kept"], *facts["grid"], *facts["counts"].values())
    )


def names_in(path: Path) -> list[str]:
    """Members of a tar."""
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_describe_shows_the_facts_and_one_image_as_it_is_stored(
    usual: Written, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["describe", str(usual.folder)])
    main()
    said = capsys.readouterr().out
    assert said == describe(usual.folder)
    assert "token-shards" in said and "num_kept: 4" in said and "counts: train 6, val 3" in said
    kept = unpack_positions(usual.train[0].kept[:1], 13, 4)[0].tolist()
    assert " ".join("■" if cell in kept else "·" for cell in range(13)) in said
    assert f"codes {', '.join(map(str, usual.train[0].codes[0].tolist()))}" in said
    assert f"class {('cat', 'dog')[int(usual.train[0].cls[0])]}" in said  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no artifact"),
        (json.dumps({"schema": 3, "kind": "cake"}), "is of kind cake; expected one of"),
    ],
)
def test_describe_says_in_a_line_what_is_no_artifact(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=message):
        describe(tmp_path)

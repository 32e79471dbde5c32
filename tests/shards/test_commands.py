"""`python -m shards.list`, `.inspect`, `.verify`, `.describe`: what they say, and what they notice."""

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards import describe, inspect, verify
from shards import list as listing
from shards.images import ImageShards
from shards.making.sources import list_source
from shards.making.writing import write_image_manifest
from shards.token_making.writing import pack_positions, write_token_manifest, write_token_shard
from shards.tokens import TokenFacts, TokenShards
from shards.tokens.blocks import TokenBlock
from tests.shards.making import encoded, picture, rows_of, write_index, write_pictures
from workspace.errors import UserError
from workspace.exact.manifest import write_manifest
from workspace.exact.tar import TarWriter, iterate_tar

Run = Callable[..., int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a module's `main`; returns its exit status: a message is 1, as the interpreter has it."""

    def run(module: Any, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        try:
            module.main()
        except SystemExit as ended:
            return 1 if isinstance(ended.code, str) and "\n" not in ended.code else 2
        return 0

    return run


def tokens(folder: Path) -> Path:
    """Token shards of 6 + 2 images: 3 of the 9 cells of a grid."""
    facts = TokenFacts(
        (3, 3), 16, 3, ("circle", "square"), None, None, {"train": 6, "val": 2}, "adaptive", "f" * 64
    )
    for split, count in facts.counts.items():
        positions = np.array([np.random.default_rng(n).choice(9, 3, replace=False) for n in range(count)])
        block = TokenBlock(
            tuple(f"{number:07d}" for number in range(count)),
            np.arange(3 * count).reshape(count, 3).astype(np.uint16) % 16,
            pack_positions(positions, 9),
            np.arange(count).astype(np.uint16) % 2,
            None,
            None,
        )
        write_token_shard(folder / split / "000000.tar", [block])
    write_token_manifest(folder, facts, {"mqvae": "f" * 64})
    return folder


def test_a_listing_lists_what_its_folder_lists(tmp_path: Path, command: Run) -> None:
    names = ["a/1.png", "a/größe\u2028.png", "b/3.jpg", "top.png"]
    write_pictures(tmp_path / "raw", names)
    out = tmp_path / "listing.tsv"
    assert command(listing, tmp_path / "raw", "--out", out) == 0
    header, *rows = out.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert header == f"# root: {(tmp_path / 'raw').resolve()}"
    sizes = {row.split("\t")[0]: int(row.split("\t")[1]) for row in rows}
    assert sizes == {name: (tmp_path / "raw" / name).stat().st_size for name in names}
    assert list_source("folder", str(out)) == list_source("folder", str((tmp_path / "raw").resolve()))


def test_a_listing_serves_class_folders_too(tmp_path: Path) -> None:
    write_pictures(tmp_path / "raw", ["train/a/1.png", "val/b/2.png"])
    assert listing.write_listing(tmp_path / "raw", tmp_path / "l") == 2
    found = list_source("class_folder", str(tmp_path / "l"))
    assert [(image.split, image.cls) for image in found.images] == [("train", 0), ("val", 1)]


def test_inspect_says_what_a_source_is_and_what_to_paste(
    tmp_path: Path, command: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        f"{split}/{cls}/{n}.png" for split in ("train", "test") for cls in ("cat", "dog") for n in range(3)
    ]
    write_pictures(tmp_path / "raw", names)
    (tmp_path / "raw" / "train" / "dog" / "2.png").write_bytes((tmp_path / "raw" / names[0]).read_bytes())
    asked = ("--role", "test=val", "--duplicates")
    assert command(inspect, tmp_path / "raw", *asked) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{tmp_path / 'raw'}: class_folder"
    assert {"12 images: 12 .png", "splits: train 6, val 6 (the source's own)", "no captions"} <= set(said)
    assert "2 classes of 6 images: cat 6, dog 6" in said
    assert any(line.startswith("1 duplicates: images with the bytes of another one") for line in said)
    assert said[-4:] == [
        "shard:",
        "  kind: class_folder",
        f"  source: {tmp_path / 'raw'}",
        '  roles: {"test": "val"}',
    ]


def test_inspect_shows_what_is_there_where_it_cannot_say_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path, ["train/1.png", "extra/2.png", "extra/3.png"])
    monkeypatch.setattr(sys, "argv", ["inspect", str(tmp_path)])
    with pytest.raises(SystemExit, match="train/ is named like a split, and beside it is extra/") as ended:
        inspect.main()
    assert str(ended.value).splitlines()[1:] == ["there are:", "  extra/ 2 images", "  train/ 1 images"]


def test_inspect_says_why_files_are_not_read(
    tmp_path: Path, command: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link to nothing is not called a file of another kind: of a picture, of a text, of a folder of pictures."""
    write_pictures(tmp_path / "raw", ["a/1.png", "b/2.png"])
    for name in ("a/3.png", "a/4.png", "b/5.txt", "c", "c.d"):
        (tmp_path / "raw" / name).symlink_to(tmp_path / "gone" / name)
    (tmp_path / "raw" / "a" / "6.png").write_bytes(b"words")
    (tmp_path / "raw" / "b" / "7.txt").write_bytes(b"words")
    (tmp_path / "raw" / "b" / "8.png").write_bytes((tmp_path / "raw" / "b" / "2.png").read_bytes()[:-40])
    assert command(inspect, tmp_path / "raw") == 0
    said = capsys.readouterr().out
    assert "a link to a file that is missing: 2 of the 6 files looked at, such as a/" in said
    assert "not an image: 1 of the 6 files looked at, such as a/6.png" in said
    assert "4 passed over: 3 a link to a file that is missing, 1 .txt: not a picture" in said


@pytest.mark.parametrize(("option", "text"), [("--role", "test=valid"), ("--column", "lable=Smiling")])
def test_inspect_names_the_choices_of_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, text: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["inspect", str(tmp_path / "nowhere"), option, text])
    with pytest.raises(SystemExit, match=f"'{text}': expected .* one of"):
        inspect.main()


def test_a_link_to_nothing_is_listed_so_that_it_is_told_later(tmp_path: Path) -> None:
    write_pictures(tmp_path / "raw", ["1.png"])
    (tmp_path / "raw" / "2.png").symlink_to(tmp_path / "nowhere")
    assert listing.write_listing(tmp_path / "raw", tmp_path / "l") == 2
    assert (tmp_path / "l").read_text().endswith("\n2.png\t0\t0\n")


def test_listing_mistakes_are_told(tmp_path: Path, command: Run) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder"):
        listing.write_listing(tmp_path / "nowhere", tmp_path / "l")
    with pytest.raises(UserError, match="holds no images"):
        listing.write_listing(tmp_path, tmp_path / "l")
    write_pictures(tmp_path, ["a\tb.png"])
    with pytest.raises(UserError, match="has a tab or line break"):
        listing.write_listing(tmp_path, tmp_path / "l")
    assert command(listing, tmp_path / "nowhere", "--out", tmp_path / "l") == 1
    assert not (tmp_path / "l").exists()
    (tmp_path / "mine").write_text("# roots and wings\n")
    with pytest.raises(UserError, match="mine was not written by this command, and would be replaced"):
        listing.write_listing(tmp_path, tmp_path / "mine")
    assert command(listing, tmp_path, "--out", tmp_path) == 1
    assert command(listing, tmp_path, "--out", "/proc/listing") == 1  # no traceback


def test_whole_shards_are_told_to_be_whole(labelled: ImageShards, tmp_path: Path, command: Run) -> None:
    assert verify.verify(labelled.folder).endswith(": 12 train, 4 val images are intact")
    told = verify.verify(tokens(tmp_path / "tokens"))
    assert ": 6 train, 2 val images are intact, N = 3 of L = 9 cells, K = 16, fingerprint " in told
    assert told.endswith("codes of MQ-VAE ffffffffffffffff")
    assert command(verify, labelled.folder) == 0


def test_tokens_are_of_the_mqvae_that_they_name(tmp_path: Path, command: Run) -> None:
    folder = tokens(tmp_path / "tokens")
    shards = TokenShards.open(folder)
    write_token_manifest(folder, shards.facts, {"mqvae": "e" * 64})
    with pytest.raises(
        UserError, match="its facts name MQ-VAE ffff.*, but it was made from eeee.*expected one SHA-256"
    ):
        verify.verify(folder)
    mqvae = tmp_path / "mqvae"
    mqvae.mkdir()
    made = write_manifest(mqvae, "mqvae", {}, {})
    facts = replace(shards.facts, mqvae=made.fingerprint)
    write_token_manifest(folder, facts, {"mqvae": made.fingerprint})
    assert command(verify, folder, "--mqvae", mqvae) == 0
    write_manifest(mqvae, "mqvae", {"another": True}, {})
    with pytest.raises(
        UserError, match=r"was made by MQ-VAE [0-9a-f]{16}, .*mqvae is [0-9a-f]{16}: run `dvc repro"
    ):
        verify.check_decoder(folder, mqvae)
    assert command(verify, folder, "--mqvae", mqvae) == 1


def test_a_changed_byte_anywhere_in_an_artifact_is_noticed(
    labelled: ImageShards, tmp_path: Path, command: Run
) -> None:
    for folder in (labelled.folder, tokens(tmp_path / "tokens")):
        path = folder / "val" / "000000.tar"
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 1
        path.write_bytes(bytes(whole))
        with pytest.raises(UserError, match=r"val/000000\.tar was changed: SHA-256"):
            verify.verify(folder)
        assert command(verify, folder) == 1


def rewrite(shards: ImageShards, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """Change members of the val tar (None: leave out), and let the manifest agree with the new bytes."""
    path = shards.paths("val")[0]
    members = [change(name, data) for name, data in iterate_tar(path)]
    with TarWriter(path) as tar:
        for member in members:
            if member is not None:
                tar.add(*member)
    write_image_manifest(shards.folder, shards.facts, {})


@pytest.mark.parametrize(
    ("extension", "data", "message"),
    [
        ("png", encoded(picture(0, (9, 9))), r"0000000 has shape \(9, 9, 3\), expected \(8, 8, 3\)"),
        ("cls", b"2", r"0000000 has class 2, expected 0 … 1"),
        ("cls", None, r"0000000 has class None, and the manifest's classes are"),
        ("mask.png", None, r"0000000 has no mask of 8 × 8"),
        ("attributes.json", b'{"kind": "blob"}', "0000000 has kind blob, which is not one of"),
        ("png", encoded(picture(99)), r"0000000 is not what val\.index\.npy points at"),
    ],
)
def test_samples_that_do_not_fit_the_facts_are_named(
    labelled: ImageShards, extension: str, data: bytes | None, message: str
) -> None:
    def change(name: str, old: bytes) -> tuple[str, bytes] | None:
        if name != f"0000000.{extension}":
            return name, old
        return None if data is None else (name, data)

    rewrite(labelled, change)
    if message.endswith("points at"):
        rows = rows_of(labelled, "val")
        rows[0]["members"] = rows[1]["members"]
        write_index(labelled.folder, "val", rows, labelled.facts.shards["val"])
        write_image_manifest(labelled.folder, labelled.facts, {})
    with pytest.raises(UserError, match=message):
        verify.verify(labelled.folder)


def test_a_tar_with_fewer_images_than_its_index_is_named(labelled: ImageShards) -> None:
    rewrite(labelled, lambda name, data: None if name.startswith("0000002.") else (name, data))
    with pytest.raises(UserError, match=r"val/000000\.tar: 2 images, its index says 3"):
        verify.verify(labelled.folder)


def test_a_wrong_count_in_the_manifest_is_noticed(labelled: ImageShards) -> None:
    facts = {**asdict(labelled.facts), "counts": {"train": 12, "val": 5}}
    write_manifest(labelled.folder, "image-shards", facts, {})
    with pytest.raises(
        UserError, match="the tars of val hold 4 images, and counts says 5: run `dvc repro shard`"
    ):
        verify.verify(labelled.folder)


def test_a_key_that_stands_twice_is_noticed(labelled: ImageShards) -> None:
    path, rows = labelled.paths("train")[1], rows_of(labelled, "train")
    members = [(name.replace("0000004.", "0000001."), data) for name, data in iterate_tar(path)]
    with TarWriter(path) as tar:
        for name, data in members:
            tar.add(name, data)
    rows[4]["key"] = "0000001"
    write_index(labelled.folder, "train", rows, labelled.facts.shards["train"])
    write_image_manifest(labelled.folder, labelled.facts, {})
    with pytest.raises(UserError, match="split train: the key 0000001 appears twice"):
        verify.verify(labelled.folder)


def test_of_an_artifact_that_is_no_shards_every_byte_is_checked(tmp_path: Path, command: Run) -> None:
    with pytest.raises(UserError, match=r"holds no artifact \(manifest\.json is missing\)"):
        verify.verify(tmp_path)
    write_manifest(tmp_path, "report", {}, {})
    assert verify.verify(tmp_path).endswith("0 files of kind report are intact")
    (tmp_path / "index.html").write_text("one")
    write_manifest(tmp_path, "report", {}, {})
    (tmp_path / "index.html").write_text("two")
    with pytest.raises(UserError, match=r"index\.html was changed"):
        verify.verify(tmp_path)
    assert command(verify, tmp_path) == 1


def test_shards_are_described_in_a_few_lines(
    labelled: ImageShards, tmp_path: Path, command: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(describe, labelled.folder) == 0
    told = capsys.readouterr().out
    assert told.startswith(
        f"{labelled.folder}: image-shards, fingerprint {labelled.manifest.fingerprint[:16]}"
    )
    for fact in ("classes: circle, square", "counts: train 12, val 4", "image_size: 8", "train/ 4 files"):
        assert fact in told
    assert command(describe, tokens(tmp_path / "tokens")) == 0
    told = capsys.readouterr().out
    for fact in (
        "token-shards",
        "made from mqvae ffffffffffffffff",
        "num_kept: 3",
        "codes 0, 1, 2",
        "class circle",
    ):
        assert fact in told
    assert told.count("■") == 3 and told.count("·") == 6
    assert told.count("\n") < 40


def test_only_artifacts_can_be_described(tmp_path: Path, command: Run) -> None:
    with pytest.raises(UserError, match=r"holds no artifact \(manifest\.json is missing\)"):
        describe.describe(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema": 3, "kind": "cake"}')
    with pytest.raises(UserError, match="is of kind cake; expected one of shapes"):
        describe.describe(tmp_path)
    assert command(describe, tmp_path) == 1

"""Laws of the stage tokenize, at sizes that take a second."""

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.mqvae import MQVAE, MQVAEConfig, Tokens
from settings.tokenize import TokenizeSettings
from shards.images import ImageFacts, ImageSample, read_shard
from shards.images.pixels import to_float
from shards.making.writing import write_image_manifest
from shards.text import TextTokenizer
from shards.tokens import TEXT_TOKENIZER, TokenShards
from shards.tokens.blocks import read_token_shard, unpack_positions
from stages import tokenize
from tests.models.tiny_mqvae import TINY
from tests.shards.making import write_index
from workspace.errors import UserError
from workspace.exact.manifest import read_json, read_manifest, write_manifest
from workspace.exact.tar import TarWriter
from workspace.runs import RunFolder
from workspace.settings import Compute

HERE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
CONFIG = replace(
    TINY, image_size=8, channel_multipliers=(1,), attention=False, demask_blocks=1,
    quantizer=replace(TINY.quantizer, kind="gradient", decay=0.9, restart_every=0),
)  # fmt: skip
PLAIN, FLIPPED = {"flip": False}, {"flip": True}
SETTINGS: dict[str, Any] = {
    "batch": 2, "precision": "fp32", "block": 3, "augmentations": [PLAIN], "text_vocab": 0, "text_length": 0, "seed": 0,
}  # fmt: skip
SIZES = {"train": (5, 4), "val": (4,)}
CAPTIONS = (("A BLUE square",), (), ("a red circle", "something round"))


def settings_of(**changes: Any) -> TokenizeSettings:
    """The stage's section."""
    return TokenizeSettings.model_validate(SETTINGS | changes)


def png(seed: int) -> bytes:
    """A random picture of 8 × 8."""
    made = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(256, size=(8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(made, "png")
    return made.getvalue()


def write_images(folder: Path, captions: bool = True) -> None:
    """Nine training and four validation images in two classes; image i has captions i modulo 3."""
    number = 0
    for split, sizes in SIZES.items():
        (folder / split).mkdir(parents=True)
        rows: list[dict[str, Any]] = []
        for tar_number, size in enumerate(sizes):
            with TarWriter(folder / split / f"{tar_number:06d}.tar") as tar:
                for _ in range(size):
                    files, places = {"png": png(number), "cls": str(number % 2).encode()}, {}
                    for name, data in files.items():
                        lies = tar.add(f"{number:07d}.{name}", data)
                        places[name] = [lies.offset, lies.length, zlib.crc32(data)]
                    if captions and CAPTIONS[number % 3]:
                        tar.add(f"{number:07d}.txt", "\n".join(CAPTIONS[number % 3]).encode())
                    key = f"{number:07d}"
                    row = {"key": key, "tar": tar_number, "members": places, "source": f"cat/{key}.jpg"}
                    rows.append(row)
                    number += 1
        write_index(folder, split, rows, sizes)
    counts = {split: sum(sizes) for split, sizes in SIZES.items()}
    facts = ImageFacts("class_folder", 8, "png", ("circle", "square"), captions, None, False, counts, SIZES)
    write_image_manifest(folder, facts, {})


def write_mqvae(folder: Path, config: MQVAEConfig = CONFIG) -> MQVAE:
    """An MQ-VAE with random weights."""
    torch.manual_seed(0)
    model = MQVAE(config)
    for weight in model.parameters():
        weight.data.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(folder)
    write_manifest(folder, "mqvae", {"image_size": config.image_size}, {})
    return model.eval()


@dataclass(frozen=True)
class World:
    """A folder with image shards and an MQ-VAE."""

    root: Path
    model: MQVAE

    def folder(self, name: str) -> RunFolder:
        """A run folder."""
        folder = RunFolder(self.root / name)
        for part in (folder.out, folder.metrics, folder.work):
            part.mkdir(parents=True, exist_ok=True)
        return folder

    def run(
        self,
        name: str = "tokens",
        shards: str = "shards",
        mqvae: str = "mqvae",
        threads: int = 0,
        **changes: Any,
    ) -> TokenShards:
        """Run the stage, and open what it made."""
        folder = self.folder(name)
        inputs = tokenize.Inputs(self.root / shards, self.root / mqvae)
        tokenize.run(
            settings_of(**changes), HERE.model_copy(update={"loader_workers": threads}), inputs, folder
        )
        return TokenShards.open(folder.out)

    def samples(self, split: str) -> list[ImageSample]:
        """The images of a split, in order."""
        paths = sorted((self.root / "shards" / split).glob("*.tar"))
        return [sample for path in paths for sample in read_shard(path)]

    def tokens(self, images: list[NDArray[np.uint8]]) -> Tokens:
        """What the model says of images, one after the other."""
        parts = [self.model.tokenize(torch.from_numpy(to_float(image[None]))) for image in images]
        codes, positions = ([getattr(part, name) for part in parts] for name in ("codes_BN", "positions_BN"))
        return Tokens(torch.cat(codes), torch.cat(positions))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Image shards with captions, and an MQ-VAE that keeps 8 of 16 cells."""
    root = tmp_path_factory.mktemp("world")
    write_images(root / "shards")
    return World(root, write_mqvae(root / "mqvae"))


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_image_is_stored_as_the_codes_and_positions_that_the_mqvae_gives_it(
    world: World, split: str
) -> None:
    stored, samples = world.run(f"every-{split}").load(split), world.samples(split)
    expected = world.tokens([sample.image for sample in samples])
    assert stored.keys == tuple(sample.key for sample in samples)
    assert stored.sources == tuple(f"cat/{sample.key}.jpg" for sample in samples)
    np.testing.assert_array_equal(stored.codes, expected.codes_BN.numpy())
    np.testing.assert_array_equal(unpack_positions(stored.kept, 16, 8), expected.positions_BN.numpy())
    assert stored.cls is not None and stored.cls.tolist() == [sample.cls for sample in samples]
    assert stored.text is None and stored.caption_count is None


def test_n_k_and_the_grid_are_the_mqvaes_and_the_tokens_name_it(world: World) -> None:
    made = world.run("facts")
    facts, mqvae = made.facts, read_manifest(world.root / "mqvae", "mqvae")
    assert (facts.grid, facts.num_kept, facts.num_codes, facts.mask) == ((4, 4), 8, 16, "adaptive")
    assert facts.mqvae == mqvae.fingerprint == made.manifest.made_from["mqvae"]
    assert facts.classes == ("circle", "square") and facts.counts == {"train": 9, "val": 4}
    assert (facts.text_length, facts.text_vocab) == (None, None)


def test_an_image_shard_becomes_a_token_shard_of_blocks_of_at_most_block_images(world: World) -> None:
    made = world.run("blocks")
    sizes = {
        path.relative_to(made.folder).as_posix(): [len(block.keys) for block in read_token_shard(path)]
        for split in SIZES
        for path in made.paths(split)
    }
    assert sizes == {"train/000000.tar": [3, 2], "train/000001.tar": [3, 1], "val/000000.tar": [3, 1]}


def test_copies_are_made_of_training_images_only_and_a_flipped_one_is_the_mirror_images(world: World) -> None:
    made = world.run("copies", augmentations=[PLAIN, FLIPPED])
    assert made.facts.counts == {"train": 18, "val": 4}
    stored, samples = made.load("train"), world.samples("train")
    rows = {key: row for row, key in enumerate(stored.keys)}
    assert set(rows) == {f"{sample.key}{end}" for sample in samples for end in ("", "+1")}
    mirrored = world.tokens([sample.image[:, ::-1] for sample in samples])
    assert stored.cls is not None
    for number, sample in enumerate(samples):
        row = rows[f"{sample.key}+1"]
        np.testing.assert_array_equal(stored.codes[row], mirrored.codes_BN[number].numpy())
        assert stored.cls[row] == sample.cls
    assert stored.sources == tuple(f"cat/{key.partition('+')[0]}.jpg" for key in stored.keys)
    assert made.load("val").keys == tuple(sample.key for sample in world.samples("val"))


def test_the_same_inputs_and_seed_give_the_same_bytes(world: World) -> None:
    changes: dict[str, Any] = {"text_vocab": 300, "text_length": 6, "augmentations": [PLAIN, FLIPPED]}
    first, again = world.run("first", **changes), world.run("again", **changes)
    assert files_of(first.folder) == files_of(again.folder)


def test_batches_do_not_change_what_is_stored(world: World) -> None:
    assert files_of(world.run("one", batch=1).folder) == files_of(world.run("many", batch=64).folder)


def test_threads_that_decode_do_not_change_what_is_stored(world: World) -> None:
    assert files_of(world.run("alone").folder) == files_of(world.run("threads", threads=3).folder)


def test_bf16_changes_few_of_the_cells_that_are_kept(world: World) -> None:
    exact, half = (world.run(name, precision=name).load("train").kept for name in ("fp32", "bf16"))
    assert exact.shape == half.shape
    assert np.unpackbits(exact ^ half).sum() <= 0.2 * np.unpackbits(exact).sum()


def test_a_run_that_was_killed_goes_on_with_the_shards_that_are_left(world: World) -> None:
    whole = world.run("whole")
    folder = world.folder("killed")
    world.run("killed")
    before = {path.name: path.stat().st_ino for path in (folder.work / "tars").iterdir()}
    for path in sorted(folder.out.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folder.work / "done" / "train-000001.tar.json").unlink()
    (folder.work / "tars" / "train-000001.tar").unlink()
    assert files_of(world.run("killed").folder) == files_of(whole.folder)
    after = {path.name: path.stat().st_ino for path in (folder.work / "tars").iterdir()}
    assert {name for name in before if before[name] == after[name]} >= {"train-000000.tar", "val-000000.tar"}


def test_a_random_mask_follows_from_seed_and_key_alone(world: World) -> None:
    write_mqvae(world.root / "random", replace(CONFIG, mask="random"))

    def positions(name: str, **changes: Any) -> dict[str, list[int]]:
        stored = world.run(name, mqvae="random", **changes).load("train")
        rows = unpack_positions(stored.kept, 16, 8).tolist()
        return dict(zip(stored.keys, rows, strict=True))

    plain = positions("random-0")
    assert positions("random-1", batch=5, block=100) == plain
    both = positions("random-2", augmentations=[PLAIN, FLIPPED])
    assert {key: both[key] for key in plain} == plain
    assert all(both[f"{key}+1"] != both[key] for key in plain)
    assert positions("random-3", seed=1) != plain
    assert len({tuple(row) for row in plain.values()}) == len(plain)


def test_without_a_mask_every_cell_is_kept(world: World) -> None:
    write_mqvae(world.root / "unmasked", replace(CONFIG, mask="none", mask_ratio=0.0))
    made = world.run("none", mqvae="unmasked")
    assert made.facts.num_kept == made.facts.num_positions == 16
    assert (made.load("train").kept == 255).all()


def test_captions_are_stored_in_codes_learned_from_the_training_captions(world: World) -> None:
    made = world.run("captions", text_vocab=270, text_length=4)
    stored, text = made.load("train"), TextTokenizer.load(made.folder / TEXT_TOKENIZER)
    assert stored.text is not None and stored.caption_count is not None
    assert stored.text.shape == (9, 2, 4) and (made.facts.text_length, made.facts.text_vocab) == (
        4,
        text.vocab,
    )
    for row, sample in enumerate(world.samples("train")):
        count = len(sample.captions)
        assert stored.caption_count[row] == count
        np.testing.assert_array_equal(stored.text[row, :count], text.encode(sample.captions, 4))
        assert not stored.text[row, count:].any()
    assert made.load("val").text is not None


def test_captions_that_are_cut_are_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.run("cut", text_vocab=270, text_length=2)
    assert "100.0% of the captions are cut to tokenize.text_length = 2 codes" in capsys.readouterr().err


def test_captions_of_images_without_any_are_an_error(world: World) -> None:
    write_images(world.root / "bare", captions=False)
    with pytest.raises(UserError, match=r"tokenize\.text_vocab asks for captions.*set it to 0"):
        world.run("bare-tokens", shards="bare", text_vocab=300, text_length=6)


def test_the_numbers_are_counts_rate_codebook_use_of_the_training_images_and_bytes(world: World) -> None:
    made = world.run("numbers")
    found = read_json(world.root / "numbers" / "metrics" / "metrics.json")
    counts = np.bincount(made.load("train").codes.ravel(), minlength=16)
    p = counts[counts > 0] / counts.sum()
    assert (found["images"], found["images_train"], found["images_val"]) == (13, 9, 4)
    assert found["codebook_usage"] == pytest.approx((counts > 0).mean())
    assert found["codebook_perplexity"] == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    tars = sum(path.stat().st_size for path in made.folder.rglob("*.tar"))
    assert found["bytes_per_image"] == pytest.approx(tars / 13)
    assert found["images_per_second"] > 0


def test_images_of_another_size_are_refused(world: World) -> None:
    write_mqvae(world.root / "larger", replace(CONFIG, image_size=16))
    with pytest.raises(UserError, match=r"holds images of 8 px, and mqvae\.model\.image_size is 16"):
        world.run("larger-tokens", mqvae="larger")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda data: data.replace(b"0005.cls", b"0005.clz"),
            r"tokenize: 1 of 3 shards failed \(train/000001\.tar\)",
        ),
        (
            lambda data: data[:1024] + bytes(len(data) - 1024),
            r"000001\.tar was changed: SHA-256 .* run `dvc repro shard`",
        ),
    ],
)
def test_a_damaged_image_shard_is_named_and_the_others_are_kept(
    world: World, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    write_images(tmp_path / "shards")
    write_mqvae(tmp_path / "mqvae")
    path = tmp_path / "shards" / "train" / "000001.tar"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message) as raised:
        World(tmp_path, world.model).run("tokens")
    assert "000001.tar" in str(raised.value) and "\n" not in str(raised.value)
    kept = sorted(path.name for path in (tmp_path / "tokens" / "work" / "done").glob("*.json"))
    assert kept == ["train-000000.tar.json", "val-000000.tar.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"augmentations": [FLIPPED]},
            r"tokenize\.augmentations starts with a flipped version; expected \{flip: false\} first",
        ),
        ({"text_vocab": 300}, r"tokenize\.text_vocab is 300 and text_length 0; expected both 0 or both > 0"),
        ({"text_length": 8}, r"text_vocab is 0 and text_length 8"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings_of(**changes).check("params.yaml: tokenize", HERE)

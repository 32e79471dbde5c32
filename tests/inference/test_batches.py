"""Laws of trained models at work on batches, and of how samples and examples are stored."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluation.examples import Example, read_examples, read_picture, write_examples
from inference.encode import KeyedImages, encode, encoder_on
from inference.reconstruct import from_other_counts, reconstruct
from inference.sampling.decode import decode
from inference.token_shards import BlockMaker
from models.mqvae import MQVAE
from models.mqvae.masker import MaskKind
from settings.tokenize import Augmentation, TokenizeSettings
from shards.images import ImageSample
from shards.samples import Sample, SampleFacts, SampleRecord, read_samples, sample_shards, write_samples
from tests.training.test_mqvae_training import CONFIG
from workspace.errors import UserError
from workspace.exact.manifest import facts_of, read_json, write_json, write_manifest

KEYS = ("a", "b/c", "ü")


def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)


def batch(seed: int = 3) -> KeyedImages:
    return KeyedImages(images(), KEYS, seed)


def model(mask: MaskKind) -> MQVAE:
    torch.manual_seed(0)
    made = MQVAE(replace(CONFIG, mask=mask, mask_ratio=0.0 if mask == "none" else 0.5)).eval()
    for weight in made.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return encoder_on(made, torch.device("cpu"))


@pytest.mark.parametrize("mask", ["adaptive", "random", "none"])
def test_a_reconstruction_is_what_the_decoder_makes_of_the_tokens(mask: MaskKind) -> None:
    mqvae = model(mask)
    tokens, back = encode(mqvae, batch()), reconstruct(mqvae, batch())
    assert np.array_equal(tokens.codes, back.codes) and np.array_equal(tokens.positions, back.positions)
    for size in (1, 2, 3):
        made = decode(mqvae, *(torch.from_numpy(part) for part in tokens), batch=size)
        assert np.abs(made.astype(int) - back.images).max() <= 1


@pytest.mark.parametrize("mask", ["adaptive", "random"])
def test_the_tokens_of_an_image_depend_on_its_key_and_seed_and_not_on_its_neighbours(mask: MaskKind) -> None:
    mqvae = model(mask)
    together = encode(mqvae, batch())
    for row, key in enumerate(KEYS):
        alone = encode(mqvae, KeyedImages(images()[row : row + 1], [key], 3))
        assert np.array_equal(alone.codes[0], together.codes[row])
        assert np.array_equal(alone.positions[0], together.positions[row])
    other = encode(mqvae, batch(seed=4))
    assert np.array_equal(other.positions, together.positions) == (mask == "adaptive")


def test_the_first_cells_of_the_order_are_those_that_are_kept_and_other_counts_leave_them_out() -> None:
    mqvae = model("random")
    back = reconstruct(mqvae, batch())
    kept = mqvae.config.num_kept
    assert np.array_equal(np.sort(back.order[:, :kept], axis=1), back.positions)
    assert sorted(back.order[0]) == list(range(mqvae.config.num_positions))
    others = from_other_counts(mqvae, images(), back)
    assert kept not in others and max(others) == mqvae.config.num_positions
    assert from_other_counts(model("none"), images(), back) == {}


def test_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = (SampleRecord(0, 3), SampleRecord(1, 3, cls=2), SampleRecord(2, 3, prompt="ein Stern ☂"))
    written = [Sample(record, image) for record, image in zip(records, images(), strict=True)]
    write_samples(tmp_path / "000000.tar", written)
    manifest = write_manifest(tmp_path, "samples", {}, {})
    [path] = sample_shards(tmp_path, manifest)
    found = list(read_samples(path, manifest))
    assert [sample.record for sample in found] == list(records)
    assert np.array_equal(np.stack([sample.image for sample in found]), images())
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"000000.tar was changed: .*run `dvc repro sample`"):
        next(read_samples(path, manifest))


def test_examples_are_read_as_they_were_written(tmp_path: Path) -> None:
    examples = [
        Example(f"e{row}", None, (4, 4), [0.5] * 16, [0, 3], [7, 1], list(range(16)), [1, 4])
        for row in range(3)
    ]
    names = ("input", *examples[0].made.values())
    assert names == ("input", "from-1", "reconstruction", "from-4")
    write_examples(tmp_path, examples, {name: images() + number for number, name in enumerate(names)})
    manifest = write_manifest(tmp_path, "reconstructions", {}, {})
    assert read_examples(tmp_path) == examples
    for number, name in enumerate(names):
        for row, example in enumerate(examples):
            picture = np.asarray(read_picture(tmp_path, manifest, example, name))
            assert np.array_equal(picture, images()[row] + number)
    value = read_json(tmp_path / "examples.json")
    write_json(tmp_path / "examples.json", [value[0] | {"kept": "all"}])
    with pytest.raises(UserError, match=r"examples.json: 0.kept: Input should be a valid array"):
        read_examples(tmp_path)


def test_facts_that_an_artifact_lacks_or_has_in_another_type_are_named_with_what_to_run(
    tmp_path: Path,
) -> None:
    whole = SampleFacts(0, 3, {"guidance_scale": 1.5}, "none", None, 8, 2, 1)
    assert facts_of(SampleFacts, write_manifest(tmp_path, "samples", asdict(whole), {})) == whole
    for change, told in (({"cell_pixels": "two"}, "Input should be a valid integer"), ({}, "Field required")):
        facts = {name: value for name, value in asdict(whole).items() if name != "cell_pixels"} | change
        manifest = write_manifest(tmp_path, "samples", facts, {})
        with pytest.raises(
            UserError, match=f"the facts of samples: cell_pixels: {told}.*: run `dvc repro sample`"
        ):
            facts_of(SampleFacts, manifest)


def test_a_compiled_model_gives_the_same_tokens_to_all_batches_of_a_block() -> None:
    mqvae = model("adaptive")
    settings = TokenizeSettings(
        batch=2,
        compile=True,
        block=4,
        augmentations=[Augmentation(flip=False)],
        text_vocab=0,
        text_length=0,
        seed=0,
    )
    maker = BlockMaker(mqvae, settings, False, None)
    samples = [
        ImageSample(key, image, None, (), None, None) for key, image in zip(KEYS, images(), strict=True)
    ]
    (block,) = maker.blocks(iter([samples[:2], samples[2:]]), settings.augmentations, dict.fromkeys(KEYS, ""))
    expected = encode(mqvae, KeyedImages(images(), KEYS, 0))
    assert np.array_equal(block.codes, expected.codes)

"""Laws of the stages reference, reconstruct and evaluate, on a handful of shapes."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from demo.drawing import KINDS
from evaluation.features.interface import Extractor
from evaluation.features.labelled import LabelledImages
from evaluation.features.reference import Reference
from evaluation.features.rows import FeatureRows, extract
from evaluation.neighbours import Neighbours
from evaluation.perceptual.lpips import LPIPSConfig
from evaluation.protocol import Protocol
from models.mqvae import MQVAE
from models.mqvae.masker import MaskKind
from shards.images import ImageShards
from shards.images.pixels import to_float, to_uint8
from stages import evaluate, reconstruct, reference
from tests.committed import ROOT
from tests.evaluation.small import (
    COUNTS,
    EVALUATE,
    HERE,
    PER_TAR,
    PROXY,
    RECONSTRUCT,
    REFERENCE,
    run_folder,
    write_mqvae,
    write_samples,
    write_shards,
)
from workflow.params import load_params
from workspace.errors import UserError
from workspace.exact.manifest import read_json, read_manifest, sha256_file
from workspace.runs import RunFolder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def real(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = run_folder(tmp_path_factory.mktemp("reference"))
    reference.run(REFERENCE, HERE, reference.Inputs(shards), folder)
    return folder


def test_a_reference_holds_every_image_of_both_splits(real: RunFolder, shards: Path) -> None:
    opened = Reference.open(real.out)
    assert opened.facts.images == COUNTS
    assert opened.facts.class_head == "kind"
    assert opened.rows("train").classes.tolist() == [number % len(KINDS) for number in range(COUNTS["train"])]
    index = ImageShards.open(shards).index("train")
    mean = np.mean([index.read(number).image for number in range(COUNTS["train"])], axis=0)
    assert np.abs(opened.mean_image() - mean).max() <= 0.5


def test_the_same_shards_and_seed_give_a_reference_of_the_same_bytes(
    real: RunFolder, shards: Path, tmp_path: Path
) -> None:
    again = run_folder(tmp_path)
    reference.run(REFERENCE, HERE, reference.Inputs(shards), again)
    for name in ("manifest.json", "val.safetensors", "extractor.safetensors"):
        assert sha256_file(again.out / name) == sha256_file(real.out / name)


def test_a_reference_can_be_limited_to_a_draw_of_images(shards: Path, tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    limited = REFERENCE.model_copy(update={"max_images": 10, "proxy": PROXY.model_copy(update={"steps": 1})})
    reference.run(limited, HERE, reference.Inputs(shards), folder)
    opened = Reference.open(folder.out)
    assert opened.facts.images == {"train": 10, "val": 10}
    assert len(opened.rows("train")) == 10


def test_a_proxy_of_unlabelled_shards_is_refused(tmp_path: Path) -> None:
    unlabelled = write_shards(tmp_path / "data", labelled=False)
    with pytest.raises(
        UserError, match="these image shards have none; expected inception, squeezenet or efficientnet_lite0"
    ):
        reference.run(REFERENCE, HERE, reference.Inputs(unlabelled), run_folder(tmp_path / "run"))


def test_a_proxy_for_a_kind_of_source_without_labels_is_known_before_any_work() -> None:
    unconditional = ["stackformer.condition=none", "stackformer.cfg_dropout=0.0", "sample.guidance_scale=1.0"]
    with pytest.raises(
        UserError, match="shard.kind folder has none; expected inception, squeezenet or efficientnet_lite0"
    ):
        load_params(ROOT / "presets" / "tiny.yaml", ["shard.kind=folder", *unconditional])


@pytest.mark.parametrize("mask", ["adaptive", "random"])
def test_reconstructions_are_scored_and_shown(
    real: RunFolder, shards: Path, tmp_path: Path, mask: MaskKind
) -> None:
    mqvae, folder = write_mqvae(tmp_path / "mqvae", mask), run_folder(tmp_path / "run")
    reconstruct.run(RECONSTRUCT, HERE, reconstruct.Inputs(shards, real.out, mqvae), folder)
    numbers = read_json(folder.metrics / "metrics.json")
    expected = {"psnr", "l1", "ssim", "codebook_usage", "codebook_perplexity", "proxy_rfd", "proxy_accuracy"}
    aucs = {f"{name}_{kind}" for name in ("mask_auc", "gradient_auc") for kind in ("smooth", "textured")}
    assert expected | aucs <= numbers.keys()
    assert numbers["shape_fit"] < numbers["shape_fit_real"] and numbers["shape_fit_real"] > 0.95
    assert {"shape_edge_fit_star", "grid_ratio_cells", "grid_ratio_cells_to_real"} <= numbers.keys()
    assert "grid_ratio_stem" not in numbers  # this model's stem is the cell
    assert numbers["psnr_above_mean_image"] == pytest.approx(numbers["psnr"] - numbers["psnr_mean_image"])
    assert numbers.keys() == Protocol.read(folder.metrics).estimators.keys()
    examples = read_json(folder.out / "examples.json")
    assert len(examples) == RECONSTRUCT.examples
    assert all(len(example["scores"]) == 64 and len(example["kept"]) == 32 for example in examples)
    assert (folder.out / "examples" / f"{examples[0]['key']}.reconstruction.png").is_file()
    assert (folder.out / "figure4.png").is_file()
    for example in examples:
        assert sorted(example["order"][:32]) == example["kept"]
        assert sorted(example["order"]) == list(range(64))
        assert len(example["codes"]) == 32
        assert example["counts"] == [4, 8, 16, 24, 40, 48, 56, 64]


@torch.inference_mode()
def test_a_picture_from_every_cell_is_what_the_same_weights_make_without_a_mask(
    real: RunFolder, shards: Path, tmp_path: Path
) -> None:
    mqvae, folder = write_mqvae(tmp_path / "mqvae", "adaptive"), run_folder(tmp_path / "run")
    reconstruct.run(RECONSTRUCT, HERE, reconstruct.Inputs(shards, real.out, mqvae), folder)
    model = MQVAE.from_pretrained(mqvae)
    unmasked = MQVAE(replace(model.config, mask_ratio=0.0)).eval()
    unmasked.load_state_dict(model.state_dict())
    for example in read_json(folder.out / "examples.json"):
        stem = folder.out / "examples" / example["key"]
        with Image.open(f"{stem}.input.png") as picture:
            image = to_float(np.asarray(picture))
        made = to_uint8(unmasked(torch.from_numpy(image)[None]).reconstruction_BCHW.numpy())[0]
        with Image.open(f"{stem}.from-64.png") as picture:
            assert np.abs(np.asarray(picture).astype(int) - made).max() <= 1


def test_features_of_shards_that_were_done_before_a_kill_are_not_taken_again(
    real: RunFolder, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = run_folder(tmp_path / "run"), []
    shutil.copytree(real.work, folder.work, dirs_exist_ok=True)
    (folder.work / "done" / "train-000001.safetensors.json").unlink()
    (folder.work / "rows" / "train-000001.safetensors").unlink()
    shutil.copytree(real.out, folder.work / "extractor", dirs_exist_ok=True)

    def counted(extractor: Extractor, batches: Iterable[LabelledImages], keep_logits: bool) -> FeatureRows:
        found = extract(extractor, batches, keep_logits)
        seen.append(len(found))
        return found

    monkeypatch.setattr(reference, "extract", counted)
    reference.run(REFERENCE, HERE, reference.Inputs(shards), folder)
    assert seen == [PER_TAR]
    for name in ("train.safetensors", "val.safetensors", "mean_image.png"):
        assert sha256_file(folder.out / name) == sha256_file(real.out / name)


def test_reconstructions_are_held_against_lpips_where_it_is_asked_for(
    real: RunFolder, shards: Path, tmp_path: Path, squeezenet_weights: Path, lpips_heads: Path
) -> None:
    mqvae, folder = write_mqvae(tmp_path / "mqvae", "adaptive"), run_folder(tmp_path / "run")
    lpips = LPIPSConfig("squeezenet", squeezenet_weights, lpips_heads)
    settings = RECONSTRUCT.model_copy(update={"lpips": lpips})
    reconstruct.run(settings, HERE, reconstruct.Inputs(shards, real.out, mqvae), folder)
    numbers, protocol = read_json(folder.metrics / "metrics.json"), Protocol.read(folder.metrics)
    assert 0.05 < numbers["lpips"] < 2
    for path in (squeezenet_weights, lpips_heads):
        assert sha256_file(path) in protocol.estimators["lpips"]
    assert numbers["proxy_rfd_low"] <= numbers["proxy_rfd"] <= numbers["proxy_rfd_high"]


def test_real_images_as_samples_have_the_best_scores(real: RunFolder, shards: Path, tmp_path: Path) -> None:
    samples, folder = write_samples(tmp_path / "samples", shards, COUNTS["val"]), run_folder(tmp_path / "run")
    evaluate.run(EVALUATE, HERE, evaluate.Inputs(samples, real.out), folder)
    numbers = read_json(folder.metrics / "metrics.json")
    assert numbers["proxy_fd"] == pytest.approx(0, abs=1e-3)
    assert numbers["proxy_precision"] == numbers["proxy_recall"] == 1
    assert numbers["within_class_variance_ratio"] == pytest.approx(1, rel=1e-4)
    assert numbers["proxy_accuracy"] == pytest.approx(
        read_json(real.metrics / "metrics.json")["proxy_accuracy"]
    )
    protocol = Protocol.read(folder.metrics)
    assert (protocol.reference_split, protocol.count, protocol.settings) == ("val", 36, {"guidance_scale": 1})
    assert "fid" not in numbers
    assert numbers["shape_fit"] > 0.95
    assert all(numbers[f"shape_fit_{kind}"] > 0.9 and f"proxy_accuracy_{kind}" in numbers for kind in KINDS)
    assert len(read_json(folder.out / "shape_fit.json")["fit"]) == COUNTS["val"]
    assert numbers["grid_ratio_cells_to_real"] == pytest.approx(1, abs=1e-6)
    assert numbers["grid_ratio_stem_real"] == pytest.approx(numbers["grid_ratio_stem"], abs=1e-6)
    assert numbers["proxy_nearest_train_ratio"] == pytest.approx(1, abs=1e-4)
    assert numbers["proxy_close_copies"] <= 1 / 36


def test_samples_that_repeat_training_images_are_found_out_and_their_originals_named(
    real: RunFolder, shards: Path, tmp_path: Path
) -> None:
    samples, folder = (
        write_samples(tmp_path / "samples", shards, 20, split="train"),
        run_folder(tmp_path / "run"),
    )
    evaluate.run(EVALUATE, HERE, evaluate.Inputs(samples, real.out), folder)
    numbers = read_json(folder.metrics / "metrics.json")
    assert numbers["proxy_nearest_train_ratio"] == pytest.approx(0, abs=1e-3)
    assert numbers["proxy_close_copies"] == 1
    found = Neighbours.load(folder.out)
    assert found.items[:, 0].tolist() == list(range(20))
    assert found.held_out.min() > 0
    assert read_manifest(folder.out, "evaluation").facts["training_images"] == COUNTS["train"]


def test_neighbours_among_a_draw_of_images_are_named_by_their_place_in_the_split(
    shards: Path, tmp_path: Path
) -> None:
    limited = REFERENCE.model_copy(update={"max_images": 30, "proxy": PROXY.model_copy(update={"steps": 1})})
    real = run_folder(tmp_path / "reference")
    reference.run(limited, HERE, reference.Inputs(shards), real)
    samples, folder = (
        write_samples(tmp_path / "samples", shards, 72, split="train"),
        run_folder(tmp_path / "run"),
    )
    evaluate.run(EVALUATE, HERE, evaluate.Inputs(samples, real.out), folder)
    drawn = Reference.open(real.out).facts.items("train")
    assert len(drawn) == 30
    found = Neighbours.load(folder.out)
    assert found.items[drawn, 0].tolist() == drawn.tolist()
    assert set(found.items.ravel().tolist()) <= set(drawn.tolist())


def test_samples_of_captions_are_judged_by_their_words(real: RunFolder, shards: Path, tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", shards, 20, classes=False)
    folder = run_folder(tmp_path / "run")
    settings = EVALUATE.model_copy(update={"num_images": 12})
    evaluate.run(settings, HERE, evaluate.Inputs(samples, real.out), folder)
    numbers = read_json(folder.metrics / "metrics.json")
    assert {"proxy_accuracy", "proxy_accuracy_pattern", "variance_ratio"} <= numbers.keys()
    assert Protocol.read(folder.metrics).count == 12
    assert len(Neighbours.load(folder.out).items) == 12


def test_more_images_than_there_are_samples_is_refused(real: RunFolder, shards: Path, tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", shards, 6)
    settings = EVALUATE.model_copy(update={"num_images": 7})
    with pytest.raises(UserError, match="holds 6 images of 32 pixels; expected at least 7"):
        evaluate.run(settings, HERE, evaluate.Inputs(samples, real.out), run_folder(tmp_path / "run"))

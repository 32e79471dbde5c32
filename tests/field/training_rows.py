"""Trainings on too little, and from weights that do not fit."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import training as group_training
from tests.field.small import finished, small_world, through
from tests.field.table import Field, Row
from tests.hostile.table import World, plain
from workspace.errors import UserError

SMALL, START, MIDDLE, MACHINE = (
    "small data",
    "starting from weights",
    "in the middle of a training",
    "machines",
)
DONE = "every stage is done"
Outcome = Callable[[Field, Path], str]


def flow(train: int, val: int, classes: int = 1, **changes: Any) -> Outcome:
    """All stages on so many pictures under changed settings."""
    return lambda field, folder: through(small_world(folder / "world", train, val, classes, **changes))


def small(symptom: str, made: str, expected: str, outcome: Outcome) -> Row:
    return Row(symptom, SMALL, made, expected, outcome)


FEW = (
    small(
        "one class, fewer images than any batch, one shard",
        "5 + 4 pictures of one class",
        DONE,
        lambda field, folder: through(finished(folder)),
    ),
    small(
        "a validation split of one image",
        "6 + 1 pictures",
        "reference refused: the split val of artifacts/shards has 1 image, but distances and precision need at least 4",
        flow(6, 1),
    ),
    small(
        "a validation split of three",
        "6 + 3 pictures: precision compares with 3 nearest others",
        "has 3 images, but distances and precision need at least 4 in train and in val: change shard.val_fraction",
        flow(6, 3),
    ),
    small(
        "one training image", "1 + 5 pictures", "the split train of artifacts/shards has 1 image", flow(1, 5)
    ),
    small(
        "no validation images",
        "6 pictures, `shard.val_fraction: 0`",
        "the split val of shard.source would be empty: of 6 images, shard.val_fraction is 0.0",
        flow(6, 0, shard__val_fraction=0.0),
    ),
    small(
        "validation images only",
        "5 pictures in val/",
        "shard.source data has no images to train on: its folders are val",
        flow(0, 5),
    ),
    small(
        "reference.max_images: 1",
        "in params.yaml",
        "reference.max_images is 1, expected ≥ 4, or null",
        flow(5, 4, reference__max_images=1),
    ),
    small(
        "fewer samples than scores need",
        "`sample.num_images: 3`",
        "expected 4 ≤ evaluate.num_images ≤ sample.num_images",
        flow(5, 4, sample__num_images=3),
    ),
    small(
        "one validation image per class, fewer samples than classes",
        "10 + 5 pictures of 5 classes, 4 samples",
        DONE,
        flow(10, 5, 5),
    ),
    small("all pictures are the same", "5 + 4 times one picture", DONE, flow(5, 4, alike=True)),
    small("N = L: nothing is masked", "`mask_ratio: 0`", DONE, flow(5, 4, mqvae__model__mask_ratio=0.0)),
    small(
        "N = L without positions",
        "`mask: none`, `position_layers: 0`",
        DONE,
        flow(
            5,
            4,
            mqvae__model__mask="none",
            mqvae__model__mask_ratio=0.0,
            stackformer__model__position_layers=0,
        ),
    ),
    small(
        "no position layers where cells are masked",
        "`position_layers: 0`, `mask_ratio: 0.5`",
        "shard refused: params.yaml: stackformer.model.position_layers is 0 and mqvae.model.mask_ratio 0.5",
        flow(5, 4, stackformer__model__position_layers=0),
    ),
    small(
        "N = 1",
        "`mask_ratio: 0.985` of 64 cells, `position_support: unused`",
        DONE,
        flow(5, 4, mqvae__model__mask_ratio=0.985, stackformer__model__position_support="unused"),
    ),
    small(
        "N = 0",
        "`mask_ratio: 0.999`",
        "mask_ratio 0.999 keeps N = 0 of L = 64 cells; expected N ≥ 1",
        flow(5, 4, mqvae__model__mask_ratio=0.999),
    ),
    small(
        "a grid of one cell",
        "`patch_size: 16` on 16 pixels",
        DONE,
        flow(5, 4, mqvae__model__patch_size=16, mqvae__model__mask_ratio=0.0),
    ),
    small(
        "more codes than vectors for their first values; shards of one image",
        "`num_codes: 4096`, `samples_per_shard: 1`",
        DONE,
        flow(
            5,
            4,
            mqvae__model__num_codes=4096,
            shard__samples_per_shard=1,
            sample__samples_per_shard=1,
            sample__batch=1,
        ),
    ),
    small(
        "two codes, one step",
        "`num_codes: 2`, `stackformer.steps: 1`, validation of more images than there are",
        DONE,
        flow(
            5,
            4,
            mqvae__model__num_codes=2,
            stackformer__steps=1,
            mqvae__validate_images=9999,
            stackformer__validate_images=9999,
        ),
    ),
    small(
        "one code",
        "`num_codes: 1`",
        "num_codes is 1, expected 2 ≤ num_codes ≤ 65536",
        flow(5, 4, mqvae__model__num_codes=1),
    ),
    small(
        "more workers than micro-batches",
        "`compute.workers: 3`",
        "mqvae.global_batch 8 / micro_batch 4 = 2 micro-batches for 3 workers; lower compute.workers",
        flow(5, 4, compute__workers=3),
    ),
)


def starting(stage: str, *changes: str, make: Callable[[World, Path], Path]) -> Outcome:
    """A training with `init_from`, on Ray if it came to that: what the user is told before any worker starts."""

    def outcome(field: Field, folder: Path) -> str:
        world, out = finished(folder), folder / "out"
        section = {"train_mqvae": "mqvae", "train_stackformer": "stackformer"}[stage]
        given = [f"{section}.init_from={make(world, folder)}", "compute.workers=2", *changes]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(group_training, "session", no_ray)
            told = world.run(stage, *(word for one in given for word in ("--set", one)), "--out", str(out))
        return plain(told, folder)

    return outcome


def lone(stage: str, *changes: str) -> Outcome:
    """A training with these settings and nothing to start from."""

    def outcome(field: Field, folder: Path) -> str:
        options = [word for one in changes for word in ("--set", one)]
        return plain(finished(folder).run(stage, *options, "--out", str(folder / "out")), folder)

    return outcome


def no_ray(*_: object) -> None:
    raise UserError("workers start")


def the(name: str) -> Callable[[World, Path], Path]:
    return lambda world, folder: world.artifact(name)


def cut(world: World, folder: Path) -> Path:
    """A copy whose download was cut off, without its manifest."""
    copy = shutil.copytree(world.artifact("mqvae"), folder / "cut")
    (copy / "manifest.json").unlink()
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return copy


def start(symptom: str, made: str, expected: str, outcome: Outcome) -> Row:
    return Row(symptom, START, made, expected, outcome)


STARTS = (
    start(
        "weights that fit",
        "`init_from` = an MQ-VAE of the same settings, two Ray workers",
        "refused: workers start",
        starting("train_mqvae", make=the("mqvae")),
    ),
    start(
        "another K: a raw traceback, and on Ray three groups and 96 s",
        "`init_from` of K = 32, `num_codes: 64`, two Ray workers",
        "whose weights do not fit: num_codes is 32 there and 64 here; make them equal",
        starting("train_mqvae", "mqvae.model.num_codes=64", make=the("mqvae")),
    ),
    start(
        "another width",
        "`stackformer.model.width: 64`",
        "network.width is 32 there and 64 here",
        starting("train_stackformer", "stackformer.model.width=64", make=the("stackformer")),
    ),
    start(
        "another condition",
        "`stackformer.condition: none`",
        "condition is class there and none here",
        starting(
            "train_stackformer",
            "stackformer.condition=none",
            "stackformer.cfg_dropout=0.0",
            make=the("stackformer"),
        ),
    ),
    start(
        "another grid at the same weights is not a mistake",
        "`mask_ratio: 0.25`",
        "refused: workers start",
        starting("train_mqvae", "mqvae.model.mask_ratio=0.25", make=the("mqvae")),
    ),
    start(
        "another K, as far as it fits",
        "`init_from` of K = 32, `num_codes: 64`, `init_partial: true`",
        "refused: workers start",
        starting("train_mqvae", "mqvae.model.num_codes=64", "mqvae.init_partial=true", make=the("mqvae")),
    ),
    start(
        "another K, and quantised from the first step",
        "the same and `quantize_start: 0`",
        "has no codebook of 64 codes to keep; expected ≥ 1",
        starting(
            "train_mqvae",
            "mqvae.model.num_codes=64",
            "mqvae.init_partial=true",
            "mqvae.quantize_start=0",
            make=the("mqvae"),
        ),
    ),
    start(
        "quantised from the first step, with the codebook that was loaded",
        "`init_from` and `quantize_start: 0`",
        "refused: workers start",
        starting("train_mqvae", "mqvae.quantize_start=0", make=the("mqvae")),
    ),
    start(
        "another model altogether, as far as it fits",
        "`stackformer.model.width: 64`, `init_partial: true`",
        "hardly any of its weights fits: network.width is 32 there and 64 here",
        starting(
            "train_stackformer",
            "stackformer.model.width=64",
            "stackformer.init_partial=true",
            make=the("stackformer"),
        ),
    ),
    start(
        "a part to freeze that is misspelt",
        "`freeze: [encodr]`",
        "mqvae.freeze names encodr, which is not a part of this model; the nearest are encoder",
        starting("train_mqvae", "mqvae.freeze=[encodr]", make=the("mqvae")),
    ),
    start(
        "everything frozen",
        "`freeze: ['*']`",
        "nothing is left to learn; freeze fewer parts",
        starting("train_stackformer", "stackformer.freeze=['*']", make=the("stackformer")),
    ),
    start(
        "all but the parts frozen that get no gradient",
        "only `masker.scorer` learns, `exploration.freeze_start: 0`",
        "with exploration.freeze_start 0 scores pass none; freeze fewer parts, or do not train",
        starting(
            "train_mqvae",
            "mqvae.freeze=[encoder,masker.to_code,demasker,decoder,quantizer,mask_code_D]",
            "mqvae.exploration.noise=1",
            "mqvae.exploration.freeze_start=0",
            make=the("mqvae"),
        ),
    ),
    start(
        "parts frozen of a model of random weights",
        "`freeze: [encoder]` and no `init_from`",
        "mqvae.freeze is ['encoder'] and init_from null; expected a folder of weights",
        lone("train_mqvae", "mqvae.freeze=[encoder]"),
    ),
    start(
        "a folder that is not there",
        "`init_from: nowhere`",
        "mqvae.init_from is nowhere, which is not a folder; expected one with model.safetensors and config.json",
        starting("train_mqvae", make=lambda world, folder: Path("nowhere")),
    ),
    start(
        "the other model's folder",
        "a Stackformer for an MQ-VAE",
        "is an artifact of kind stackformer, expected mqvae",
        starting("train_mqvae", make=the("stackformer")),
    ),
    start(
        "a download that was cut off",
        "model.safetensors without its last 100 bytes",
        "holds a damaged model",
        starting("train_mqvae", make=cut),
    ),
)

ROWS: tuple[Row, ...] = (*FEW, *STARTS)

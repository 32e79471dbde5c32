"""Checks across the sections of a params file, in the order of the stages.

A stage run by hand skips these checks and compares itself with the artifacts that it reads.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.metrics.statistics import FEWEST
from shards.making.sources import list_source
from workspace.errors import UserError

if TYPE_CHECKING:  # importing the sections takes seconds, too long for a stage's `--help`
    from workflow.params import Params

UNLABELLED = ("folder", "coco")
"""Kinds of source that have no labels."""


def check_across(params: "Params", path: Path) -> None:
    """Run all checks.

    Raises:
        UserError: the first check that fails.
    """
    for check in (_shards, _proxy, _inception, _budget, _layers_and_captions, _conditions, _counts):
        check(params, str(path))


def _shards(params: "Params", path: str) -> None:
    """The image sizes of shards and models must be equal, and the source must have the condition that Stackformer learns."""
    shard, wanted = params.shard, params.mqvae.model.image_size
    if shard.image_size != wanted:
        raise UserError(
            f"{path}: shard.image_size is {shard.image_size} and mqvae.model.image_size is {wanted}; make them equal"
        )
    if shard.kind in ("folder", "class_folder", "coco"):
        captions = shard.kind == "coco" or (shard.kind == "class_folder" and bool(shard.tables))
        _served(params, path, f"shard.kind {shard.kind}", shard.kind == "class_folder", captions)


def _served(params: "Params", path: str, what: str, classes: bool, captions: bool) -> None:
    condition = params.stackformer.condition
    has = [name for name, there in (("class", classes), ("text", captions)) if there]
    if condition != "none" and condition not in has:
        lacks = "classes" if condition == "class" else "captions"
        raise UserError(
            f"{path}: stackformer.condition is {condition}, and {what} has no {lacks}; expected "
            f"{' or '.join(['none', *has])}, or a source with {lacks}: `python -m shards.inspect SOURCE` shows what one has"
        )


def check_source(params: "Params", path: Path) -> None:
    """Check that the source has the labels and captions that later stages need, if its kind alone does not tell.

    Raises:
        UserError: it does not.
    """
    shard, features = params.shard, params.reference.features
    by_tables = shard.kind == "class_folder" and bool(shard.tables)  # which may hold captions, or only splits
    if shard.kind not in ("auto", "file_names", "metadata", "webdataset") and not by_tables:
        return
    if params.stackformer.condition == "none" and features != "proxy":
        return
    source = list_source(shard.kind, shard.source, shard.reading, params.compute.cache)
    captions = any(image.captions for image in source.images)
    _served(params, str(path), f"shard.source {shard.source}", bool(source.classes), captions)
    if features == "proxy" and not source.classes and not source.attributes:
        raise UserError(
            f"{path}: reference.features is proxy, which learns from labels, but shard.source {shard.source} has none; "
            "expected inception, squeezenet or efficientnet_lite0"
        )


def _budget(params: "Params", path: str) -> None:
    """An MQ-VAE of fixed N makes that N of every image, and no image is given less than a few cells."""
    budget, model = params.tokenize.budget, params.mqvae.model
    budget.check_cells(f"{path}: tokenize.budget", model.mask_ratio, model.num_positions)
    ratio = model.mask_ratio if budget.mask_ratio is None else budget.mask_ratio
    if model.kept == "fixed" and (budget.kind != "fixed" or ratio != model.mask_ratio):
        asked = f"kind is {budget.kind}" if budget.kind != "fixed" else f"mask_ratio is {budget.mask_ratio}"
        raise UserError(
            f"{path}: tokenize.budget.{asked}, and mqvae.model.kept is fixed at mask_ratio {model.mask_ratio}; expected "
            "mqvae.model.kept any"
        )


def _proxy(params: "Params", path: str) -> None:
    """A proxy needs labels."""
    if params.reference.features == "proxy" and params.shard.kind in UNLABELLED:
        raise UserError(
            f"{path}: reference.features is proxy, which learns from labels, but shard.kind {params.shard.kind} has none; "
            f"expected inception, squeezenet or efficientnet_lite0"
        )


def _inception(params: "Params", path: str) -> None:
    """All sections must name the same Inception weights."""
    expected = params.reference.torchscript_sha256
    for section in (params.reconstruct, params.evaluate):
        if section.torchscript_sha256 != expected:
            raise UserError(
                f"{path}: {section.SECTION}.torchscript_sha256 is {section.torchscript_sha256}, "
                f"expected reference.torchscript_sha256, {expected}"
            )


def _layers_and_captions(params: "Params", path: str) -> None:
    """A model of captions needs tokens with captions; a model without position layers needs tokens of all cells."""
    ratio, tokenize = params.mqvae.model.mask_ratio, params.tokenize
    if not params.stackformer.model.position_layers and ratio:
        raise UserError(
            f"{path}: stackformer.model.position_layers is 0 and mqvae.model.mask_ratio {ratio}; expected ≥ 1 layers "
            "(0 is for mask_ratio 0, which keeps every cell)"
        )
    if params.stackformer.condition == "text" and not (tokenize.text_vocab and tokenize.text_length):
        raise UserError(
            f"{path}: stackformer.condition is text and tokenize.text_vocab {tokenize.text_vocab}, text_length "
            f"{tokenize.text_length}; expected both > 0, so that the tokens hold captions"
        )


def _conditions(params: "Params", path: str) -> None:
    """Samples can only be requested by the condition that the Stackformer learns."""
    sample, condition = params.sample, params.stackformer.condition
    if condition == "text" and not sample.prompts:
        raise UserError(
            f"{path}: sample.prompts is empty; expected at least one, because stackformer.condition is text"
        )
    if condition != "text" and sample.prompts is not None:
        raise UserError(
            f"{path}: sample.prompts needs stackformer.condition text, which is {condition}; expected null"
        )
    if condition != "class" and sample.classes != "all":
        raise UserError(
            f"{path}: sample.classes needs stackformer.condition class, which is {condition}; expected all"
        )
    if sample.guidance_scale != 1 and not params.stackformer.cfg_dropout:
        raise UserError(
            f"{path}: sample.guidance_scale is {sample.guidance_scale} and stackformer.cfg_dropout 0 (nothing is learned "
            "without the condition); expected guidance_scale 1, or cfg_dropout > 0"
        )


def _counts(params: "Params", path: str) -> None:
    """There must be at least as many samples as are scored."""
    made, asked = params.sample.num_images, params.evaluate.num_images
    if not FEWEST <= (made if asked is None else asked) <= made:
        raise UserError(
            f"{path}: evaluate.num_images is {asked} and sample.num_images {made}; "
            f"expected {FEWEST} ≤ evaluate.num_images ≤ sample.num_images"
        )

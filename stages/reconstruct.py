"""reconstruct: images through the MQ-VAE and back, and how good they are (paper §4: Figure 4, Tables 6, 7).

Reads   image shards, reference, MQ-VAE
Writes  figure4.png, examples with their importance maps; scores in metrics/reconstruct
Params  reconstruct
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cluster.devices import device_of
from cluster.overlap import made_ahead
from cluster.shard_map import ShardJob, map_shards
from demo.drawing import KINDS, OUTLINES
from evaluation.extractors import load_extractor
from evaluation.grid import Grid, grid_scores
from evaluation.judged import Judged, judge
from evaluation.labelled import LabelledImages, chosen_images, in_batches, label_images
from evaluation.lpips import load_lpips
from evaluation.protocol import Made, Score
from evaluation.reconstructions import ImageScores, score_images, summarise
from evaluation.reference import Reference, ReferenceFacts
from evaluation.rows import FeatureRows, extract
from evaluation.scores import (
    Real,
    accuracy_by_class,
    accuracy_scores,
    reconstruction_distance,
    write_scores,
)
from evaluation.shape_fit import KIND, fit_scores
from models.masker import random_ranking
from models.mqvae import MQVAE
from models.precision import autocast
from reporting.figures import figure4
from settings.reconstruct import ReconstructSettings
from shards.images import ImageIndex, ImageSample, ImageShards
from shards.pixels import to_float, to_uint8
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.manifest import read_manifest, write_json, write_manifest
from workspace.runs import RunFolder
from workspace.seeds import sample_seed
from workspace.settings import Compute

SHARES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0)
"""Examples are also reconstructed from these shares of the cells."""


REAL_EVERY = 4
"""Real images whose shape is fitted, for comparison: one of so many; they differ little, and a fit takes 5 ms."""


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path
    reference: Path
    mqvae: Path


@dataclass(frozen=True)
class Reconstructed:
    """A batch on its way back: uint8 [B, H, W, 3], importance and what cells were ranked by [B, L], codes and positions
    int64 [B, N].
    """

    images: NDArray[np.uint8]
    scores: NDArray[np.float32]
    ranking: NDArray[np.float32]
    codes: NDArray[np.int64]
    positions: NDArray[np.int64]

    @property
    def order(self) -> NDArray[np.int64]:
        """Cells from the first that is kept to the last, int64 [B, L]; the first N are those that the model kept."""
        kept = np.zeros(self.scores.shape, dtype=bool)
        np.put_along_axis(kept, self.positions, True, axis=1)
        return np.lexsort((-self.ranking, ~kept), axis=1)


def run(settings: ReconstructSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Reconstruct the split shard by shard, score it, keep examples."""
    shards, reference = ImageShards.open(inputs.shards), Reference.open(inputs.reference)
    made_by = read_manifest(inputs.mqvae, "mqvae")
    model = MQVAE.from_pretrained(inputs.mqvae)
    shards.require(image_size=model.config.image_size)
    paths = Inputs(inputs.shards.absolute(), inputs.reference.absolute(), inputs.mqvae.absolute())
    lpips = settings.lpips.absolute()
    distance = load_lpips(lpips, "reconstruct.lpips")
    absolute = settings.replaced(lpips=lpips)
    make = partial(reconstructing, paths, absolute, compute.device, compute.loader_workers)
    work = folder.work.absolute()
    jobs = [
        ShardJob(path.absolute(), work / "rows" / f"{path.stem}.safetensors", index)
        for index, path in enumerate(shards.paths(settings.split))
    ]
    facts = map_shards(make, jobs, compute, work / "done", "reconstructions", folder.progress_file)
    found = ImageScores.merged([ImageScores(**values["scores"]) for values in facts])
    made, originals = (
        Judged.merged([Judged(**values[name]) for values in facts]) for name in ("made", "real")
    )
    rows = FeatureRows.concatenate([FeatureRows.load(job.output) for job in jobs])
    real = Real(reference.rows(settings.split), reference.moments(settings.split))
    scores = summarise(
        found, model.quantizer.codebook_KD.detach().numpy(), distance.title if distance else ""
    )
    scores |= reconstruction_distance(reference.facts.features, real, rows, settings.seed)
    scores |= accuracy_scores(rows, list(reference.facts.heads), reference.facts.class_head)
    scores |= own_scores(made, originals, rows, reference.facts, grid_of(model))
    config = model.config
    facts_of_model = {"mask": config.mask, "num_kept": config.num_kept, "num_codes": config.num_codes}
    how = Made(len(rows), facts_of_model, settings.seed, {"mqvae": made_by.fingerprint})
    write_scores(scores, reference, settings.split, how, folder.metrics)
    keep_examples(settings, shards, model, folder.out)
    manifests = {"shards": shards.manifest, "reference": reference.manifest, "mqvae": made_by}
    made_from = {name: manifest.fingerprint for name, manifest in manifests.items()}
    write_manifest(folder.out, "reconstructions", {"images": len(rows), "split": settings.split}, made_from)


def grid_of(model: MQVAE) -> Grid:
    """Where the borders of the model's cells lie."""
    return Grid(model.config.downsampling, model.config.stem)


def own_scores(
    made: Judged, real: Judged, rows: FeatureRows, facts: ReferenceFacts, grid: Grid
) -> dict[str, Score]:
    """Does the grid show, and of drawn shapes: are they still there."""
    scores = grid_scores(grid.periods(facts.image_size), np.array(made.steps), np.array(real.steps))
    if made.fits():
        scores |= fit_scores(made.fits(), KINDS) | fit_scores(real.fits(), (), "_real")
    if made.fits() and KIND in facts.heads:
        scores |= accuracy_by_class(rows, facts.heads, KIND, KINDS)
    return scores


def reconstructing(
    paths: Inputs, settings: ReconstructSettings, device: str, threads: int
) -> Callable[[ShardJob], dict[str, Any]]:
    """Made once a worker: the function that reconstructs and scores one shard."""
    shards, reference = ImageShards.open(paths.shards), Reference.open(paths.reference)
    extractor = load_extractor(paths.reference, device_of(device), settings.torchscript_sha256)
    distance = load_lpips(settings.lpips, "reconstruct.lpips")
    if distance is not None:
        distance.to(device_of(device))
    model = MQVAE.from_pretrained(paths.mqvae).to(device_of(device))
    mean_image = reference.mean_image()
    grid = (model.config.grid, model.config.grid)

    def one(job: ShardJob) -> dict[str, Any]:
        index = shards.index(settings.split)
        scored, made = [], []
        judged: dict[str, list[Judged]] = {"made": [], "real": []}
        batches = in_batches(index.indices_of(job.input), settings.batch)
        for samples in made_ahead(partial(read_all, index), batches, threads):
            back = reconstruct(model, samples, settings.seed, settings.precision)
            counts = np.bincount(back.codes.ravel(), minlength=model.config.num_codes)
            scored.append(score_images(samples, back.images, mean_image, back.scores, grid, counts, distance))
            labels = label_images(samples, extractor.heads, shards.facts.classes)
            for name, found in judge_both(samples, back.images, grid_of(model)).items():
                judged[name].append(found)
            made.append(LabelledImages(back.images, labels.classes, labels.expected))
        extract(extractor, made, keep_logits=False).save(job.output)
        both = {name: Judged.merged(parts).to_json() for name, parts in judged.items()}
        return {"scores": ImageScores.merged(scored).to_json(), **both}

    return one


def judge_both(samples: Sequence[ImageSample], made: NDArray[np.uint8], grid: Grid) -> dict[str, Judged]:
    """Reconstructions and their originals by themselves; of the originals each `REAL_EVERY`-th's shape is fitted."""
    kinds = [(sample.attributes or {}).get(KIND) for sample in samples]
    drawn = [kind if kind in OUTLINES else None for kind in kinds]
    some = [None if row % REAL_EVERY else kind for row, kind in enumerate(drawn)]
    real = np.stack([sample.image for sample in samples])
    return {"made": judge(made, drawn, OUTLINES, grid), "real": judge(real, some, OUTLINES, grid)}


def read_all(index: ImageIndex, items: Sequence[int]) -> list[ImageSample]:
    """Some samples of a split."""
    return [index.read(item) for item in items]


@torch.inference_mode()
def reconstruct(
    model: MQVAE, samples: Sequence[ImageSample], seed: int, precision: Literal["fp32", "bf16"]
) -> Reconstructed:
    """Run samples through the model; a random mask follows from (seed, key), as in tokenize."""
    parameter = next(model.parameters())
    image_BCHW = torch.from_numpy(to_float(np.stack([sample.image for sample in samples]))).to(parameter)
    ranking_BL = None
    if model.config.mask == "random":
        seeds = [sample_seed(seed, 0, 0, f"mask/{sample.key}") for sample in samples]
        ranking_BL = random_ranking(seeds, model.config.num_positions).to(parameter)
    with autocast(precision, parameter.device):
        output = model(image_BCHW, ranking_BL)
    return Reconstructed(
        images=to_uint8(output.reconstruction_BCHW.float().cpu().numpy()),
        scores=output.scores_BL.float().cpu().numpy(),
        ranking=(output.scores_BL if ranking_BL is None else ranking_BL).float().cpu().numpy(),
        codes=output.codes_BN.cpu().numpy(),
        positions=output.positions_BN.cpu().numpy(),
    )


def keep_examples(settings: ReconstructSettings, shards: ImageShards, model: MQVAE, out: Path) -> None:
    """Write figure4.png, examples.json, and each example's input and reconstruction."""
    index = shards.index(settings.split)
    items = [int(item) for item in chosen_images(len(index), settings.examples, settings.seed)]
    samples = [index.read(item) for item in items]
    back = reconstruct(model, samples, settings.seed, settings.precision)
    grid = (model.config.grid, model.config.grid)
    inputs = np.stack([sample.image for sample in samples])
    figure4(inputs, back.scores, back.positions, back.images, grid).save(out / "figure4.png")
    (out / "examples").mkdir(exist_ok=True)
    others = from_other_counts(model, inputs, back)
    pictures = {"input": inputs, "reconstruction": back.images} | {
        f"from-{n}": of for n, of in others.items()
    }
    told = []
    for row, sample in enumerate(samples):
        for name, images in pictures.items():
            Image.fromarray(images[row]).save(out / "examples" / f"{sample.key}.{name}.png")
        example = Example(
            key=sample.key,
            cls=sample.cls,
            grid=grid,
            scores=back.scores[row].tolist(),
            kept=back.positions[row].tolist(),
            codes=back.codes[row].tolist(),
            order=back.order[row].tolist(),
            counts=sorted(others),
        )
        told.append(asdict(example))
    write_json(out / "examples.json", told)


@torch.inference_mode()
def from_other_counts(
    model: MQVAE, inputs: NDArray[np.uint8], back: Reconstructed
) -> dict[int, NDArray[np.uint8]]:
    """Reconstructions of uint8 [B, H, W, 3] from the n best cells, for the n of SHARES other than N: n → the same shape.

    They show what the model makes of fewer or more cells, though it was trained at N; there are none where nothing is masked.
    """
    config = model.config
    counts = {max(1, round(share * config.num_positions)) for share in SHARES} - {config.num_kept}
    if config.mask == "none":
        return {}
    all_cells = MQVAE(replace(config, mask_ratio=0.0)).eval()
    all_cells.load_state_dict(model.state_dict())
    image_BCHW, order_BL = torch.from_numpy(to_float(inputs)), torch.from_numpy(back.order)
    codes_BL = all_cells.tokenize(image_BCHW, torch.from_numpy(back.ranking)).codes_BN
    made = {}
    for count in sorted(counts):
        positions_BN = order_BL[:, :count]
        image = model.decode_tokens(codes_BL.gather(1, positions_BN), positions_BN)
        made[count] = to_uint8(image.numpy())
    return made


@dataclass(frozen=True)
class Example:
    """One entry of examples.json.

    Attributes:
        key: in the shards.
        cls: index of its class, or null.
        grid: (h, w).
        scores: importance of the L cells in raster order.
        kept: the N positions that are kept, ascending.
        codes: their codes.
        order: all L cells, from the first that is kept to the last.
        counts: numbers n of cells for which KEY.from-n.png shows what the model makes of the n first cells.
    """

    key: str
    cls: int | None
    grid: tuple[int, int]
    scores: list[float]
    kept: list[int]
    codes: list[int]
    order: list[int]
    counts: list[int]


STAGE = Stage("reconstruct", __doc__, ReconstructSettings, Inputs, run)

if __name__ == "__main__":
    run_stage("reconstruct")

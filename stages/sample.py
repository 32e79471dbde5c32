"""sample: Stackformer draws codes and positions, the MQ-VAE decodes them (paper section 3.3, Algorithm 1).

Reads   Stackformer, MQ-VAE
Writes  tars of KEY.png + KEY.json {index, seed, cls or prompt}, and grid.png
Params  sample

By hand, from a trained model: `python -m stages.sample --prompt "a small red ring on a striped blue background" --out DIR`,
`python -m stages.sample --class rose --out DIR`. Of a picture of yours a part is drawn again by
`python -m stages.sample --edit PICTURE --redraw 8,8,24,24 --out DIR`; the rest keeps its codes and positions.

Image i depends on (seed, i) and its class or prompt, not on the workers; the batch sizes change at most its last bits.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.devices import device_of, free_bytes
from cluster.overlap import ahead
from cluster.shard_map import ShardJob, map_shards
from inference.editing.asked import before, edit_of, sources, told
from inference.editing.draw import ImageEditor, drawer
from inference.editing.region import Edit
from inference.sampling.conditions import Conditions, conditions_of, require_same_codes
from inference.sampling.sample import require_lengths
from models.base.published import StackformerFacts
from models.mqvae import MQVAE, MQVAEConfig
from models.stackformer import Stackformer
from reporting.samples import write_before, write_grid, write_png_files
from settings.sample import SampleSettings
from shards.samples import Sample, SampleFacts, SampleRecord, write_samples
from workflow.asked_samples import OPTIONS
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.exact.manifest import facts_of, read_manifest, write_json, write_manifest
from workspace.links import link_or_copy
from workspace.progress import say
from workspace.runs import RunFolder
from workspace.settings import Compute


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    stackformer: Path
    mqvae: Path


def run(settings: SampleSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Draw the images range by range, then write the grid."""
    stackformer = read_manifest(inputs.stackformer, "stackformer")
    mqvae = read_manifest(inputs.mqvae, "mqvae")
    learned = facts_of(StackformerFacts, stackformer)
    require_same_codes(learned, mqvae, (inputs.stackformer, inputs.mqvae))
    conditions = conditions_of(settings, learned, inputs.stackformer)
    fewest = learned.num_kept if learned.fewest_kept is None else learned.fewest_kept
    require_lengths(settings, fewest, learned.num_kept)
    paths = Inputs(inputs.stackformer.absolute(), inputs.mqvae.absolute())
    decoder = MQVAE.from_pretrained(inputs.mqvae)
    edit = edit_of(settings, learned, decoder.config, inputs.stackformer)
    if edit is not None:
        say(told(edit, settings, decoder, learned.num_kept))
        write_before(*before(edit, settings, decoder, learned.num_kept), folder.out / "before.png")
    make = partial(sampling, paths, settings, conditions, compute.device, edit)
    out, work = folder.out.absolute(), folder.work.absolute()
    jobs = [
        ShardJob(paths.stackformer, work / "tars" / f"{index:06d}.tar", index)
        for index in range(-(-settings.num_images // settings.samples_per_shard))
    ]
    done = map_shards(make, jobs, compute, work / "done", "sample", folder.progress_file)
    tars = [job.output for job in jobs]
    for tar in tars:
        link_or_copy(tar, out / tar.name)
    batch = min(shard["batch"] for shard in done)
    if batch < settings.batch and compute.workers:  # without workers this process has already reported it
        say(f"sample.batch was lowered from {settings.batch} to {batch}: the GPUs have no memory for more")
    rate = settings.num_images / sum(shard["seconds"] for shard in done)
    rates = {"images": settings.num_images, "images_per_second_of_a_worker": rate}
    if edit is not None:
        rates["effective_candidates"] = sum(shard["effective"] for shard in done) / settings.num_images
    write_json(folder.metrics / "metrics.json", rates)
    write_grid(tars, conditions.labels, out / "grid.png")
    if settings.png_files:
        write_png_files(tars, out / "png")
    made_from = {"stackformer": stackformer.fingerprint, "mqvae": mqvae.fingerprint}
    write_manifest(out, "samples", asdict(sample_facts(settings, learned, decoder.config)), made_from)


def sample_facts(settings: SampleSettings, learned: StackformerFacts, config: MQVAEConfig) -> SampleFacts:
    """The facts of the images."""
    return SampleFacts(
        seed=settings.seed,
        count=settings.num_images,
        settings=settings.model_dump(mode="json"),
        condition=learned.condition,
        classes=learned.classes,
        image_size=config.image_size,
        cell_pixels=config.downsampling,
        stem_pixels=config.patch_size,
    )


def sampling(
    paths: Inputs, settings: SampleSettings, conditions: Conditions, device: str, edit: Edit | None
) -> Callable[[ShardJob], dict[str, Any]]:
    """Called once per worker; returns the function that writes the tar of one range of images."""
    place = device_of(device)
    models = Stackformer.from_pretrained(paths.stackformer), MQVAE.from_pretrained(paths.mqvae)
    draw = drawer(*models, settings, edit, place, free_bytes(place))
    batch = draw.settings.batch

    def drawn(start: int) -> NDArray[np.uint8]:
        indices = range(start, start + batch)
        return draw(conditions.tensor(indices), indices)

    def samples(first: int, end: int) -> Iterator[Sample]:
        starts = range(first, end, batch)
        for start, images in zip(starts, ahead(map(drawn, starts)), strict=True):
            for index, image in zip(range(start, min(start + batch, end)), images, strict=False):
                yield Sample(SampleRecord(index, settings.seed, *conditions.of(index)), image)

    def one(job: ShardJob) -> dict[str, Any]:
        began, first = time.monotonic(), job.index * settings.samples_per_shard
        end = min(first + settings.samples_per_shard, settings.num_images)
        write_samples(job.output, samples(first, end))
        found = {"images": end - first, "seconds": time.monotonic() - began, "batch": batch}
        if isinstance(draw, ImageEditor):  # which drew more where the last batch was padded
            found["effective"] = sum(draw.effective[index] for index in range(first, end))
        return found

    return one


STAGE = Stage("sample", __doc__, SampleSettings, Inputs, run, sources, options=OPTIONS)

if __name__ == "__main__":
    run_stage("sample")

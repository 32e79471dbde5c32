"""sample: Stackformer draws codes and positions, the MQ-VAE decodes them (paper section 3.3, Algorithm 1).

Reads   Stackformer, MQ-VAE
Writes  tars of KEY.png + KEY.json {index, seed, cls or prompt}, and grid.png
Params  sample

By hand, from a trained model: `python -m stages.sample --prompt "a small red ring on a striped blue background" --out DIR`,
`python -m stages.sample --class rose --out DIR`.

Image i depends on (seed, i), its class or prompt, and the batch sizes in its last bits; not on the workers.
"""

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cluster.devices import device_of, free_bytes
from cluster.overlap import ahead
from cluster.shard_map import ShardJob, map_shards
from models.memory import Needs, decoding_need, sampling_need
from models.mqvae import MQVAE, MQVAEConfig
from models.precision import autocast
from models.sampling import Sampler, SamplingSettings
from models.stackformer import Stackformer, StackformerConfig
from reporting.samples import write_grid, write_png_files
from settings.sample import SampleSettings
from shards.pixels import to_uint8
from shards.tar import TarWriter
from shards.text import TextTokenizer
from shards.tokens import TEXT_TOKENIZER
from workflow.running import run_stage
from workflow.stage import Options, Stage
from workspace.errors import UserError
from workspace.links import link_or_copy
from workspace.manifest import Manifest, atomic_path, read_manifest, write_json, write_manifest
from workspace.progress import say
from workspace.runs import RunFolder
from workspace.seeds import sample_seed
from workspace.settings import Compute

HELP = {
    "prompt": "draw images of this caption, as files below OUT/png; may be repeated",
    "class": "draw images of this class, as files below OUT/png; may be repeated",
}
BY_HAND_COMMAND = "python -m stages.sample"
BY_HAND = 16
"""Images that a prompt or a class asked for by hand gives; `--set sample.num_images=…` asks for others."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    stackformer: Path
    mqvae: Path


def asked_changes(asked: Mapping[str, Sequence[str]]) -> list[str]:
    """The settings that `--prompt` and `--class` stand for."""
    changes = [f"sample.{name}={BY_HAND}" for name in ("num_images", "batch", "samples_per_shard")]
    changes += ["sample.png_files=true"]
    prompts, classes = list(asked["prompt"]) or None, list(asked["class"]) or "all"
    return [*changes, f"sample.prompts={json.dumps(prompts)}", f"sample.classes={json.dumps(classes)}"]


@dataclass(frozen=True)
class Asked:
    """What images are asked for; image i takes entry i modulo their number.

    Attributes:
        condition: none, class or text.
        labels: class names or prompts; empty for none.
        classes: index of each class; empty unless condition is class.
        codes: condition codes of each entry, N_c each.
    """

    condition: str
    labels: tuple[str, ...]
    classes: tuple[int, ...]
    codes: tuple[tuple[int, ...], ...]

    def told(self, index: int) -> dict[str, Any]:
        """What image `index`'s JSON says of its condition."""
        if self.condition == "none":
            return {}
        entry = index % len(self.labels)
        return {"cls": self.classes[entry]} if self.classes else {"prompt": self.labels[entry]}

    def tensor(self, indices: Sequence[int]) -> torch.Tensor:
        """Conditions of the images at `indices`, int64 [B, N_c]."""
        return torch.tensor([self.codes[index % len(self.codes)] for index in indices])


def run(settings: SampleSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Draw range after range of images, then lay out the grid."""
    stackformer, mqvae = (
        read_manifest(inputs.stackformer, "stackformer"),
        read_manifest(inputs.mqvae, "mqvae"),
    )
    require_same_codes(stackformer, mqvae, inputs)
    asked = asked_for(settings, stackformer, inputs.stackformer)
    make = partial(
        sampling, inputs.stackformer.absolute(), inputs.mqvae.absolute(), settings, asked, compute.device
    )
    shards = -(-settings.num_images // settings.samples_per_shard)
    out, tars = folder.out.absolute(), folder.work.absolute() / "tars"
    jobs = [
        ShardJob(inputs.stackformer.absolute(), tars / f"{index:06d}.tar", index) for index in range(shards)
    ]
    work = (folder.work / "done").absolute()
    done = map_shards(make, jobs, compute, work, "sample", folder.progress_file)
    for job in jobs:
        link_or_copy(job.output, out / job.output.name)
    seconds = sum(shard["seconds"] for shard in done)
    batch = min(shard["batch"] for shard in done)
    if batch < settings.batch and compute.workers:  # in this process it was said when it happened
        say(f"sample.batch was lowered from {settings.batch} to {batch}: the GPUs have no room for more")
    rates = {"images": settings.num_images, "images_per_second_of_a_worker": settings.num_images / seconds}
    write_json(folder.metrics / "metrics.json", rates)
    write_grid([job.output for job in jobs], asked.labels, out / "grid.png")
    if settings.png_files:
        write_png_files([job.output for job in jobs], out / "png")
    config = MQVAE.from_pretrained(inputs.mqvae).config
    facts = {
        "seed": settings.seed,
        "count": settings.num_images,
        "settings": settings.model_dump(mode="json"),
        "condition": asked.condition,
        "classes": stackformer.facts["classes"],
        "image_size": mqvae.facts["image_size"],
        "cell_pixels": config.downsampling,
        "stem_pixels": config.stem,
    }
    made_from = {"stackformer": stackformer.fingerprint, "mqvae": mqvae.fingerprint}
    write_manifest(out, "samples", facts, made_from)


def require_same_codes(stackformer: Manifest, mqvae: Manifest, inputs: Inputs) -> None:
    """The decoder must be the one whose codes the Stackformer learned.

    Raises:
        UserError: it is another.
    """
    expected, found = stackformer.facts["mqvae"], mqvae.fingerprint
    if expected != found:
        raise UserError(
            f"{inputs.stackformer} learned tokens made by MQ-VAE {expected[:4]}…, {inputs.mqvae} is "
            f"{found[:4]}…: run `dvc repro train_stackformer`, or sample with the first one"
        )
    for name in ("grid", "num_kept", "num_codes"):
        learned, decoded = stackformer.facts.get(name), mqvae.facts.get(name)
        if learned != decoded:
            raise UserError(
                f"{inputs.stackformer} draws {name} {learned}, and {inputs.mqvae} decodes {decoded}: run `dvc repro "
                "train_stackformer`"
            )


def asked_for(settings: SampleSettings, stackformer: Manifest, folder: Path) -> Asked:
    """The conditions that the settings ask for, in the Stackformer's codes.

    Raises:
        UserError: a class that it does not know, or no prompts.
    """
    condition, known = stackformer.facts["condition"], stackformer.facts["classes"]
    require_condition(settings, stackformer, folder)
    if condition == "none":
        return Asked(condition, (), (), ((0,),))
    if condition == "text":
        if not settings.prompts:
            raise UserError(
                f"sample.prompts is empty, and {folder} draws from captions: expected at least one, in params.yaml or by "
                f'`{BY_HAND_COMMAND} --prompt "a star" --out DIR`'
            )
        length = Stackformer.from_pretrained(folder).config.condition_length
        codes = TextTokenizer.load(folder / TEXT_TOKENIZER).encode(settings.prompts, length)
        return Asked(condition, tuple(settings.prompts), (), tuple(tuple(row) for row in codes.tolist()))
    names = known if settings.classes == "all" else settings.classes
    for name in names:
        if name not in known:
            raise UserError(f"sample.classes names {name}; {folder} knows {', '.join(known)}")
    indices = tuple(known.index(name) for name in names)
    return Asked(condition, tuple(names), indices, tuple((index,) for index in indices))


def require_condition(settings: SampleSettings, stackformer: Manifest, folder: Path) -> None:
    """The Stackformer that is there must have learned what the settings ask for.

    Raises:
        UserError: captions of a model that has none, classes likewise, or guidance where nothing was learned without.
    """
    condition, known = stackformer.facts["condition"], stackformer.facts["classes"]
    by_class = f"by class: `{BY_HAND_COMMAND} --class {known[0]} --out DIR`" if condition == "class" else ""
    draws = {
        "class": by_class,
        "text": f'from captions: `{BY_HAND_COMMAND} --prompt "a star" --out DIR`',
        "none": "without a condition: expected none",
    }[condition]
    if condition != "text" and settings.prompts is not None:
        raise UserError(
            f"sample.prompts needs a Stackformer of captions (`make repro PRESET=shapes_text` trains one), and {folder} "
            f"draws {draws}"
        )
    if condition != "class" and settings.classes != "all":
        raise UserError(f"sample.classes needs a Stackformer of classes, and {folder} draws {draws}")
    if settings.guidance != 1 and stackformer.facts.get("condition_drop") == 0:
        raise UserError(
            f"sample.guidance is {settings.guidance}, and {folder} never learned to draw without its condition "
            "(stackformer.condition_drop was 0); expected 1"
        )


def sampling(
    stackformer: Path, mqvae: Path, settings: SampleSettings, asked: Asked, device: str
) -> Callable[[ShardJob], dict[str, Any]]:
    """Made once a worker: the function that writes the tar of one range of images."""
    place = device_of(device)
    model, decoder = Stackformer.from_pretrained(stackformer), MQVAE.from_pretrained(mqvae).to(place)
    settings = fitted(settings, model.config, decoder.config, free_bytes(place))
    model = model.to(place, DTYPES[settings.precision])
    kept_as = DTYPES[settings.cache] if place.type == "cuda" else None
    sampler = Sampler(model, settings.batch, drawing(settings), kept_as=kept_as)

    def draw(first: int) -> NDArray[np.uint8]:
        indices = range(first, first + settings.batch)
        seeds = [sample_seed(settings.seed, 0, index, "sample") for index in indices]
        tokens = sampler(asked.tensor(indices), seeds)
        parts = (part.split(settings.decode_batch) for part in (tokens.codes_BN, tokens.positions_BN))
        with autocast(settings.decode_precision, place):
            images = [decoder.decode_tokens(*part).float().cpu().numpy() for part in zip(*parts, strict=True)]
        return to_uint8(np.concatenate(images))

    def one(job: ShardJob) -> dict[str, Any]:
        began = time.monotonic()
        first = job.index * settings.samples_per_shard
        end = min(first + settings.samples_per_shard, settings.num_images)
        with atomic_path(job.output) as path, TarWriter(path) as tar:
            starts = range(first, end, settings.batch)
            for start, images_BHWC in zip(starts, ahead(map(draw, starts)), strict=True):
                for index in range(start, min(start + settings.batch, end)):
                    add_sample(tar, index, images_BHWC[index - start], settings.seed, asked)
        return {"images": end - first, "seconds": time.monotonic() - began, "batch": settings.batch}

    return one


def drawing(settings: SampleSettings) -> SamplingSettings:
    """The sampler's part of the settings."""
    return SamplingSettings(settings.guidance, settings.code, settings.position)


def fitted(
    settings: SampleSettings, stackformer: StackformerConfig, mqvae: MQVAEConfig, free: int | None
) -> SampleSettings:
    """The settings, their batches lowered to what there is room for, with a line that says so.

    Args:
        settings: as asked for.
        stackformer, mqvae: whose tokens are drawn, and decoded.
        free: bytes on the GPU; None where there is none, and nothing is lowered.

    Raises:
        UserError: there is no room for a single image.
    """
    if free is None:
        return settings
    drawn = sampling_need(stackformer, drawing(settings), DTYPES[settings.precision], DTYPES[settings.cache])
    needs = Needs(drawn, decoding_need(mqvae))
    batch, decode_batch = needs.fit(settings.batch, settings.decode_batch, settings.samples_per_shard, free)
    if not batch:
        raise UserError(
            f"sampling one image needs {needs.told(1, 1)} of GPU memory, and {free / 1e9:.1f} GB are free: free some, or "
            "set sample.precision and sample.cache to bf16"
        )
    lowered = settings.replaced(batch=batch, decode_batch=decode_batch)
    if lowered != settings:
        say(
            f"sample.batch {settings.batch} and decode_batch {settings.decode_batch} need "
            f"{needs.told(settings.batch, settings.decode_batch)} of GPU memory, and {free / 1e9:.1f} GB are free: sampling "
            f"{batch} at a time, decoding {decode_batch}"
        )
    return lowered


def add_sample(tar: TarWriter, index: int, image: NDArray[np.uint8], seed: int, asked: Asked) -> None:
    """KEY.png, then KEY.json."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, "png")
    told = {"index": index, "seed": seed} | asked.told(index)
    tar.add(f"{index:08d}.png", png.getvalue())
    tar.add(f"{index:08d}.json", json.dumps(told, sort_keys=True).encode())


STAGE = Stage("sample", __doc__, SampleSettings, Inputs, run, options=Options(HELP, asked_changes))

if __name__ == "__main__":
    run_stage("sample")

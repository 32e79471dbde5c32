"""Model cards: the README.md of a published model, so that its folder can be uploaded as it is.

The card is beside the manifest and not listed in it: it is prose, and no stage's identity or fingerprint changes with it
(docs/decisions/0058-where-a-run-came-from.md). A training's card says nothing of days and machines: equal runs, equal bytes.

python -m workflow.card mqvae --out FOLDER        copy a published model with a longer card: the scores of later stages, the
python -m workflow.card stackformer --out FOLDER  revision, the date, and the line that makes it again
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workflow.command_line import usual_paths
from workflow.origin import nearest_preset
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import Manifest, atomic_path, read_json, read_manifest
from workspace.fingerprints import CARD
from workspace.progress import say
from workspace.runs import publish

PRESETS = Path(__file__).resolve().parent.parent / "presets"
SHORT = 12
SHOWN = re.compile(
    r"psnr|ssim|l1|lpips\w*|codebook_usage|(\w+_)?r?f(i)?d(_low|_high)?|(\w+_)?kid|is|(\w+_)?(precision|recall)"
    r"|proxy_accuracy|shape_fit|nats_per_image|bits_per_image"
)
"""Scores that a card shows, of the hundred that a stage may have."""
LATER = {"mqvae": "reconstruct", "stackformer": "evaluate"}
"""Kind → the stage that scores it later."""
LOADING = {
    "mqvae": """from pathlib import Path
import torch
from models.mqvae import MQVAE

mqvae = MQVAE.from_pretrained(Path("FOLDER"))  # this folder, wherever it is now
image_BCHW = torch.rand(1, 3, SIZE, SIZE) * 2 - 1  # yours, in [-1, 1]
tokens = mqvae.tokenize(image_BCHW)
back_BCHW = mqvae.decode_tokens(tokens.codes_BN, tokens.positions_BN)""",
    "stackformer": """from pathlib import Path
import torch
from models.mqvae import MQVAE
from models.sampling import SamplingSettings, Truncation, sample
from models.stackformer import Stackformer

stackformer = Stackformer.from_pretrained(Path("FOLDER"))  # this folder, wherever it is now
top = Truncation(temperature=1.0, top_k=0, top_p=0.9)
condition_BC = stackformer.null_condition(1)  # or a class number, or a caption's codes
new = sample(stackformer, condition_BC, seeds=[0], settings=SamplingSettings(1.0, top, top))
mqvae = MQVAE.from_pretrained(Path("MQVAE"))  # the one whose tokens it learned
image_BCHW = mqvae.decode_tokens(new.codes_BN, new.positions_BN)""",
}
ABOUT = {
    "mqvae": (
        "MQ-VAE",
        "An MQ-VAE (Huang et al., CVPR 2023, section 3.2): it keeps the {num_kept} most important of {positions} cells of an "
        "image, writes each as one of {num_codes} codes, and makes the whole image from them. Images "
        "are {image_size} × {image_size}.",
        ["mq-vae", "vector-quantization", "image-tokenizer"],
        "image-feature-extraction",
    ),
    "stackformer": (
        "Stackformer",
        "A Stackformer (Huang et al., CVPR 2023, section 3.3): it generates {num_kept} codes of {num_codes} and their positions "
        "among {positions}, from {condition}; an MQ-VAE makes the image of them.",
        ["stackformer", "autoregressive", "image-generation"],
        "unconditional-image-generation",
    ),
}


@dataclass(frozen=True)
class Number:
    """A score with how it was taken."""

    name: str
    value: float
    how: str


def write_card(folder: Path, metrics: Path) -> None:
    """Write the card of a model whose manifest is in `folder` and whose numbers are in `metrics`, of its training alone."""
    manifest = read_manifest(folder, _kind(folder))
    _write(folder, manifest, read_json(metrics / "protocol.json"), list(numbers_of(metrics)), None)


def _kind(folder: Path) -> str:
    return str(read_json(folder / "manifest.json")["kind"])


def numbers_of(metrics: Path) -> Iterator[Number]:
    """The scores in a stage's folder that a card shows."""
    values, protocol = read_json(metrics / "metrics.json"), read_json(metrics / "protocol.json")
    of = f"{protocol['count']:,} images against {protocol['reference_count']:,} of {protocol['reference_split']}"
    features = "" if protocol["features"] == "none" else f", features {protocol['features']}"
    for name, value in values.items():
        if SHOWN.fullmatch(name) and isinstance(value, (int, float)):
            estimator = protocol["estimators"].get(name, "")
            yield Number(name, float(value), f"{estimator}; {of}{features}".removeprefix("; "))


def _write(
    folder: Path,
    manifest: Manifest,
    protocol: Mapping[str, Any],
    numbers: Sequence[Number],
    origin: Mapping[str, Any] | None,
) -> None:
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text(card(manifest, protocol, numbers, origin), encoding="utf-8")


def card(
    manifest: Manifest,
    protocol: Mapping[str, Any],
    numbers: Sequence[Number],
    origin: Mapping[str, Any] | None,
) -> str:
    """The text of a model card: Hugging Face's metadata block, then Markdown.

    Args:
        manifest: of the model.
        protocol: of its training's numbers; its `settings` are the training's.
        numbers: scores to show.
        origin: of its run (workflow/origin.py), or None.
    """
    kind, facts = manifest.kind, manifest.facts
    title, about, tags, task = ABOUT[kind]
    condition = facts.get("condition", "none")
    task = "text-to-image" if condition == "text" else task
    given = {"none": "nothing", "class": "a class", "text": "a caption"}[condition]
    words = about.format(**{**facts, "positions": facts["grid"][0] * facts["grid"][1], "condition": given})
    parts = [
        f"---\n{_metadata(manifest, title, tags, task, numbers)}---\n\n# {title}\n\n{words}\n",
        f"## Load\n\nWith the repository's code on `PYTHONPATH`:\n\n```python\n{_loading(manifest)}\n```\n",
        "## Numbers\n\n| | | how |\n|---|---|---|\n"
        + "".join(f"| {one.name} | {one.value:.5g} | {one.how} |\n" for one in numbers),
        f"## Training\n\n{_training(manifest, protocol)}\n",
    ]
    return "\n".join([*parts, *([_origin(origin)] if origin else [])])


def _metadata(manifest: Manifest, title: str, tags: list[str], task: str, numbers: Sequence[Number]) -> str:
    data = next(iter(manifest.made_from.values()), "unknown")[:SHORT]
    results = {
        "task": {"type": task},
        "dataset": {"type": "imagefolder", "name": f"data {data}"},
        "metrics": [{"type": one.name, "value": one.value, "name": one.name} for one in numbers],
    }
    block = {
        "license": "unknown",  # the publisher of the weights knows what their data allow
        "library_name": "pytorch",
        "pipeline_tag": task,
        "tags": [*tags, "arxiv:2305.13607"],
        "model-index": [{"name": title, "results": [results]}],
    }
    text: str = yaml.safe_dump(block, sort_keys=False, allow_unicode=True)
    return text


def _loading(manifest: Manifest) -> str:
    return LOADING[manifest.kind].replace("SIZE", str(manifest.facts.get("image_size", "")))


def _training(manifest: Manifest, protocol: Mapping[str, Any]) -> str:
    section = manifest.kind  # the artifact of a training is called like its section
    preset, settings = nearest_preset({section: protocol["settings"]}, PRESETS)
    differ = "; ".join(f"`{name}: {_plain(value)}`" for name, value in settings.items())
    made = ", ".join(f"{name} `{fingerprint[:SHORT]}`" for name, fingerprint in manifest.made_from.items())
    return (
        f"{manifest.facts['steps']:,} steps, {manifest.facts['parameters']:,} weights, made from {made}. Its settings are "
        f"those of the preset `{preset}`{f', but {differ}' if differ else ''}. "
        f"This model's fingerprint is `{manifest.fingerprint[:SHORT]}`."
    )


def _plain(value: Any) -> str:
    """A setting's value; of a path its last name, since others have other folders."""
    return (
        Path(value).name if isinstance(value, str) and "/" in value else json.dumps(value, ensure_ascii=False)
    )


def _origin(origin: Mapping[str, Any]) -> str:
    changed = f", with changes in {', '.join(origin['changed'])}" if origin["changed"] else ""
    again = f" To make it again:\n\n```sh\n{origin['again']}\n```" if origin["again"] else ""
    return (
        f"## Where it came from\n\n{origin['date']}, revision `{origin['revision'] or 'none: no Git'}`{changed}; data "
        f"{origin['data']['source']}.{again}\n"
    )


def copied(kind: str, out: Path) -> None:
    """Copy a published model to `out`, with all that metrics/ and the later artifacts say of it in its card.

    Raises:
        UserError: there is no such model, or something is at `out`.
    """
    stage = f"train_{kind}"
    folder, metrics = usual_paths(stage)["out"], usual_paths(stage)["metrics"]
    manifest = read_manifest(folder, kind)
    if out.exists():
        raise UserError(f"{out} exists already: name another folder")
    numbers = list(numbers_of(metrics))
    later = usual_paths(LATER[kind])["metrics"]
    protocol = read_json(later / "protocol.json") if (later / "protocol.json").is_file() else {}
    if protocol.get("made_from", {}).get(kind) == manifest.fingerprint:  # scores of this very model
        scores = list(numbers_of(later))  # the whole split, where a training validates on a part of it
        numbers = [one for one in numbers if one.name not in {score.name for score in scores}] + scores
    run = read_json(metrics / "run.json") if (metrics / "run.json").is_file() else {}
    own = read_json(metrics / "protocol.json")
    publish(folder, out, link=False)
    _write(out, manifest, own, numbers, run.get("origin"))
    say(f"{folder} → {out}, {len(numbers)} numbers in its {CARD}")


def main() -> None:
    """The command line."""
    parser = parser_of(
        "workflow.card",
        "Copy a published model with a card that holds every score, its revision, date and how to make it again.",
    )
    parser.add_argument("model", choices=tuple(LATER), help="which of the two models")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    asked = parser.parse_args()
    with mistakes_in_one_line():
        copied(asked.model, asked.out)


if __name__ == "__main__":
    main()

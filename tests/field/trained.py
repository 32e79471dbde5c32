"""A tiny training on a small source: what the labels, splits and captions that reach the models and the samples are."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from models.base.published import StackformerFacts
from settings.mqvae import MQVAESettings
from settings.sample import SampleSettings
from settings.stackformer import StackformerSettings
from settings.tokenize import TokenizeSettings
from shards.samples import SampleFacts, read_stored, sample_shards
from shards.text import TextTokenizer
from shards.tokens import TEXT_TOKENIZER, TokenShards
from shards.tokens.blocks import read_token_shard
from stages import sample, tokenize, train_mqvae, train_stackformer
from tests import presets
from tests.field.counting import HERE
from tests.field.laid_out import tried
from tests.hostile.table import SMALL
from workspace.exact.manifest import facts_of, read_manifest
from workspace.runs import RunFolder

VOCAB, LENGTH = 300, 32


@dataclass(frozen=True)
class Token:
    """What a token set says of an image: its split, its class's name or its captions."""

    split: str
    label: str


@cache
def settings() -> dict[str, Any]:
    """Of every section: presets/tiny.yaml at 8 pixels and two steps."""
    text = presets.text("tiny")
    for old, new in SMALL.items():
        text = text.replace(old, new)
    tree: dict[str, Any] = yaml.safe_load(text)
    for name in ("mqvae", "stackformer"):
        tree[name] |= {"steps": 2, "checkpoint_every": 2, "validate_every": 2, "warmup_steps": 1}
    tree["mqvae"]["model"]["image_size"] = 8
    return tree


def a_run(folder: Path) -> RunFolder:
    """The folder of a run, its parts made."""
    run = RunFolder(folder)
    for part in (run.out, run.metrics, run.work):
        part.mkdir(parents=True)
    return run


def trained(
    source: Path, folder: Path, truth: Mapping[str, str], val: Collection[str] | None = None, **changes: Any
) -> str:
    """Shard a source, make it tokens, train a Stackformer on them, sample from it: what came of each, in one line.

    Args:
        source: of images; every one that `truth` does not name must be used nowhere.
        folder: an empty one.
        truth: name → class, or caption, or "" where there is no condition.
        val: names of the images that are for validation, where the source says it.
        changes: settings of `shard`, and `condition`, class unless it is said.
    """
    condition = changes.pop("condition", "class")
    told = tried(source, folder, **changes)
    mqvae = stage_one(folder, folder / "run" / "out")
    tokens = tokens_of(folder, mqvae, condition)
    found = labels_of(tokens)
    assert {name: token.label for name, token in found.items()} == dict(truth)
    held = {name for name, token in found.items() if token.split == "val"}
    assert held == set(val if val is not None else held) and held < found.keys()
    counts = ", ".join(f"{split} {_counted(found, split)}" for split in ("train", "val"))
    return f"{told}; tokens: {counts}; samples: {drawn(folder, mqvae, tokens, condition)}"


def _counted(found: Mapping[str, Token], split: str) -> str:
    """`cat 2, dog 2`."""
    counts = Counter(token.label or "images" for token in found.values() if token.split == split)
    return ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))


def stage_one(folder: Path, shards: Path) -> Path:
    """An MQ-VAE, trained on the shards of the first who asks, taken by all rows beside `folder`."""
    root = folder.parent / "trained-mqvae"
    if not root.exists():
        chosen = MQVAESettings.model_validate(settings()["mqvae"])
        train_mqvae.run(chosen, HERE, train_mqvae.Inputs(shards), a_run(root))
    return RunFolder(root).out


def tokens_of(folder: Path, mqvae: Path, condition: str) -> Path:
    """The images as tokens, captions too where these are the condition."""
    texts = {"text_vocab": VOCAB, "text_length": LENGTH} if condition == "text" else {}
    chosen = TokenizeSettings.model_validate(settings()["tokenize"] | texts)
    run = a_run(folder / "tokens")
    tokenize.run(chosen, HERE, tokenize.Inputs(folder / "run" / "out", mqvae), run)
    return run.out


def labels_of(folder: Path) -> dict[str, Token]:
    """Name of the source → what its token says."""
    tokens = TokenShards.open(folder)
    classes = tokens.facts.classes
    words = TextTokenizer.load(folder / TEXT_TOKENIZER) if tokens.facts.text_vocab else None
    found = {}
    for split in ("train", "val"):
        for block in (block for path in tokens.paths(split) for block in read_token_shard(path)):
            for image, name in enumerate(block.sources or ()):
                label = ""
                if words is not None and block.text is not None and block.caption_count is not None:
                    codes = block.text[image, : int(block.caption_count[image])]
                    label = " | ".join(words.decode(caption.tolist()) for caption in codes)
                elif block.cls is not None and classes is not None:
                    label = classes[int(block.cls[image])]
                assert found.setdefault(name, Token(split, label)) == Token(split, label), name
    return found


def drawn(folder: Path, mqvae: Path, tokens: Path, condition: str) -> str:
    """Train on the tokens, draw two images of each class: the classes that the samples were asked for."""
    made_of = TokenShards.open(tokens).facts.classes
    drop = {} if condition == "class" else {"cfg_dropout": 0.0}
    chosen = StackformerSettings.model_validate(settings()["stackformer"] | {"condition": condition} | drop)
    model = a_run(folder / "stackformer")
    train_stackformer.run(chosen, HERE, train_stackformer.Inputs(tokens), model)
    learned = facts_of(StackformerFacts, read_manifest(model.out, "stackformer"))
    assert (learned.classes, learned.condition) == (made_of, condition)
    count = 2 * len(made_of or (0,))
    prompts = {"prompts": ["a cat"]} if condition == "text" else {}
    one = {"num_images": count, "batch": count, "samples_per_shard": count, "guidance_scale": 1.0}
    asked = SampleSettings.model_validate(settings()["sample"] | one | prompts)
    run = a_run(folder / "samples")
    sample.run(asked, HERE, sample.Inputs(model.out, mqvae), run)
    return _asked_for(run.out, count)


def _asked_for(folder: Path, count: int) -> str:
    manifest = read_manifest(folder, "samples")
    facts = facts_of(SampleFacts, manifest)
    records = [
        record for path in sample_shards(folder, manifest) for record, _ in read_stored(path, manifest)
    ]
    assert len(records) == count == facts.count
    labels: Iterable[str] = (
        record.prompt or ("images" if record.cls is None else (facts.classes or ())[record.cls])
        for record in records
    )
    return ", ".join(f"{label} {number}" for label, number in sorted(Counter(labels).items()))

"""Commands typed in a shell: by hand, by DVC, by make."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.field.table import Field, Row

HAND = "by hand"


def by_hand(stage: str, *options: str, change: tuple[str, str] | None = None) -> Callable[[Field, Path], str]:
    """Run a stage by hand in the world, its params.yaml with one text for another; what the user is told, and what is made."""

    def outcome(field: Field, folder: Path) -> str:
        world = field.world()
        text = (world.root / "params.yaml").read_text(encoding="utf-8")
        old, new = change or ("", "")
        assert old in text, old
        params = folder / "params.yaml"
        params.write_text(text.replace(old, new, 1), encoding="utf-8")
        out = folder / "out"
        told = world.run(stage, *options, "--params", str(params), "--out", str(out)).replace(
            f"{folder}/", ""
        )
        if told != "done":
            return told
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        count = f", {manifest['facts']['count']} images" if "count" in manifest["facts"] else ""
        return f"done: {manifest['kind']}{count}"

    return outcome


def several(*settings: str) -> tuple[str, ...]:
    """`--set` before each."""
    return tuple(word for setting in settings for word in ("--set", setting))


BY_HAND = (
    Row(
        "one picture by hand is refused because of evaluate",
        HAND,
        "`stages.sample --set sample.num_images=1 --out DIR`",
        "done: samples, 1 images",
        by_hand("sample", *several("sample.num_images=1")),
    ),
    Row(
        "a slip in evaluate's section stops a sample by hand",
        HAND,
        "`stages.sample --out DIR` while `evaluate.batch` is text",
        "done: samples, 12 images",
        by_hand("sample", change=("evaluate:\n  num_images:\n  batch: 64", "evaluate:\n  num_images:\n  batch: many")),
    ),
    Row(
        "a slip in the own section is still told",
        HAND,
        "`stages.sample --out DIR` while `sample.batch` is text",
        "sample.batch is \"many\": expected a valid integer",
        by_hand("sample", change=("  batch: 12\n", "  batch: many\n")),
    ),
    Row(
        "shards of another size by hand are refused because of the MQ-VAE's size",
        HAND,
        "`stages.shard --set shard.image_size=8 --out DIR`",
        "done: image-shards",
        by_hand("shard", *several("shard.image_size=8")),
    ),
    Row(
        "an MQ-VAE of another size than the shards",
        HAND,
        "`stages.train_mqvae --set mqvae.model.image_size=32 --out DIR`",
        "artifacts/shards holds images of 16 px, and mqvae.model.image_size is 32",
        by_hand("train_mqvae", *several("mqvae.model.image_size=32")),
    ),
    Row(
        "a Stackformer without condition by hand is refused because of sample's guidance",
        HAND,
        "`stages.train_stackformer --set stackformer.condition=none --set stackformer.cfg_dropout=0.0 --out DIR`",
        "done: stackformer",
        by_hand("train_stackformer", *several("stackformer.condition=none", "stackformer.cfg_dropout=0.0")),
    ),
    Row(
        "captions asked of tokens that hold none",
        HAND,
        "`stages.train_stackformer --set stackformer.condition=text --out DIR`",
        "holds no captions: set tokenize.text_vocab",
        by_hand("train_stackformer", *several("stackformer.condition=text")),
    ),
    Row(
        "a caption asked of a model of classes",
        HAND,
        "`stages.sample --prompt \"a star\" --out DIR`",
        "artifacts/stackformer draws by class: `python -m stages.sample --class",
        by_hand("sample", "--prompt", "a star"),
    ),
    Row(
        "a class by hand while params.yaml asks for captions",
        HAND,
        "`stages.sample --class star --out DIR` while `sample.prompts` has some",
        "done: samples, 16 images",
        by_hand("sample", "--class", "star", change=("  prompts:  ", "  prompts: [a star]  ")),
    ),
    Row(
        "a class that the model does not know",
        HAND,
        "`stages.sample --class stra --out DIR`",
        "sample.classes names stra; artifacts/stackformer knows",
        by_hand("sample", "--class", "stra"),
    ),
    Row(
        "a reference by proxy while shard.kind has no labels",
        HAND,
        "`stages.reference --out DIR`, labelled shards, `shard.kind: folder`",
        "done: reference",
        by_hand("reference", change=("kind: shapes", "kind: folder")),
    ),
    Row(
        "a section that is missing, and not needed",
        HAND,
        "`stages.report --out DIR` from a params file without `evaluate`",
        "done: report",
        by_hand("report", change=("evaluate:\n  num_images:\n  batch: 64\n  seed: 0\n  torchscript_sha256:\n", "")),
    ),
)  # fmt: skip

ROWS: tuple[Row, ...] = BY_HAND

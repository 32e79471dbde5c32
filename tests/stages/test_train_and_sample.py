"""Laws of the stages train_stackformer and sample, at sizes that take a second."""

import io
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inference.sampling.sample import drawing, fitted
from models.base.published import MQVAEFacts
from models.mqvae import MQVAE
from models.sampling.memory import ROOM, decoding_need, sampling_need
from models.stackformer import NetworkConfig, Stackformer
from settings.sample import SampleSettings
from settings.stackformer import StackformerSettings
from shards.samples import SampleRecord
from shards.text import TextTokenizer
from shards.token_making.writing import pack_positions, write_token_manifest, write_token_shard
from shards.tokens import TEXT_TOKENIZER, TokenFacts
from shards.tokens.blocks import TokenBlock
from stages import sample, train_stackformer
from tests.models.tiny_mqvae import TINY
from workspace.errors import UserError
from workspace.exact.manifest import read_manifest, write_manifest
from workspace.exact.tar import iterate_tar
from workspace.runs import RunFolder
from workspace.settings import Compute

HERE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
DECODER = replace(
    TINY, image_size=8, channel_multipliers=(1,), attention=False, num_codes=6, demask_blocks=1,
    quantizer=replace(TINY.quantizer, kind="gradient", decay=0.9, restart_every=0),
)  # fmt: skip
PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
TRAIN: dict[str, Any] = {
    "steps": 2, "learning_rate": 1e-3, "seed": 0, "global_batch": 8, "micro_batch": 4, "warmup_steps": 0,
    "min_lr_ratio": 0.1, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.01, "max_grad_norm": 1.0, "ema_decay": 0.9,
    "precision": "fp32", "compile": False, "init_from": None, "condition": "class", "cfg_dropout": 0.1,
    "log_every": 1, "validate_every": 1, "validate_images": 8, "checkpoint_every": 1,
    "model": NetworkConfig(16, 2, 1, 1, 0.0, "ascending"),
}  # fmt: skip
SAMPLE: dict[str, Any] = {
    "num_images": 10, "batch": 4, "decode_batch": 3, "cache": "bf16", "decode_precision": "fp32",
    "samples_per_shard": 4, "seed": 3, "classes": "all", "prompts": None,
    "guidance_scale": 2.0, "code": PLAIN, "position": PLAIN, "precision": "fp32", "png_files": False,
}  # fmt: skip


def settings_of(**changes: Any) -> SampleSettings:
    """Of the stage sample."""
    return SampleSettings.model_validate(SAMPLE | changes)


def training_of(**changes: Any) -> StackformerSettings:
    """Of the stage train_stackformer."""
    return StackformerSettings.model_validate(TRAIN | changes)


def run_folder(path: Path) -> RunFolder:
    """An empty one."""
    folder = RunFolder(path)
    for part in (folder.out, folder.metrics, folder.work):
        part.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class World:
    """Artifacts below a folder: mqvae, tokens."""

    root: Path

    def train(self, name: str = "stackformer", **changes: Any) -> Path:
        """A trained Stackformer's artifact."""
        folder = run_folder(self.root / name)
        train_stackformer.run(
            training_of(**changes), HERE, train_stackformer.Inputs(self.root / "tokens"), folder
        )
        return folder.out

    def sample(self, name: str, stackformer: Path, mqvae: Path | None = None, **changes: Any) -> Path:
        """A samples artifact."""
        inputs = sample.Inputs(stackformer, mqvae or self.root / "mqvae")
        sample.run(settings_of(**changes), HERE, inputs, run_folder(self.root / name))
        return self.root / name / "out"


def write_mqvae(path: Path, seed: int) -> str:
    """An MQ-VAE with random weights; returns its fingerprint."""
    torch.manual_seed(seed)
    model = MQVAE(DECODER)
    for weight in model.parameters():
        weight.data.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(path)
    facts = MQVAEFacts(grid=(4, 4), num_kept=8, num_codes=6, image_size=8, parameters=1, steps=0)
    return write_manifest(path, "mqvae", asdict(facts), {}).fingerprint


def write_tokens(path: Path, mqvae: str, **changes: Any) -> None:
    """Random tokens of 24 + 8 images in three classes, with captions."""
    generator = np.random.default_rng(0)
    words = ("a red circle", "a blue square", "two stars")
    tokenizer = TextTokenizer.train(words, 280)
    tokenizer.save(path / TEXT_TOKENIZER)
    for split, count in (("train", 24), ("val", 8)):
        cls = generator.integers(3, size=count).astype(np.uint16)
        positions = np.stack([np.sort(generator.permutation(16)[:8]) for _ in range(count)])
        block = TokenBlock(
            keys=tuple(f"{i:03d}" for i in range(count)),
            codes=generator.integers(6, size=(count, 8)).astype(np.uint16),
            kept=pack_positions(positions, 16),
            cls=cls,
            text=tokenizer.encode([words[c] for c in cls], 4)[:, None],
            caption_count=np.ones(count, np.uint8),
        )
        write_token_shard(path / split / "000000.tar", [block])
    facts = TokenFacts(
        (4, 4),
        6,
        8,
        ("circle", "square", "star"),
        4,
        tokenizer.vocab,
        {"train": 24, "val": 8},
        "adaptive",
        mqvae,
    )
    write_token_manifest(path, replace(facts, **changes), {"mqvae": mqvae})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An MQ-VAE, its tokens and a Stackformer."""
    root = tmp_path_factory.mktemp("world")
    write_tokens(root / "tokens", write_mqvae(root / "mqvae", 0))
    made = World(root)
    made.train()
    return made


def members(folder: Path) -> dict[str, bytes]:
    """All members of all tars of a samples artifact."""
    return {name: data for path in sorted(folder.glob("*.tar")) for name, data in iterate_tar(path)}


def pixels(folder: Path) -> NDArray[np.int16]:
    """All images of a samples artifact."""
    found = [
        np.asarray(Image.open(io.BytesIO(data)))
        for name, data in members(folder).items()
        if name.endswith("png")
    ]
    return np.stack(found).astype(np.int16)


def test_the_decoders_batch_and_precision_change_rounding_alone(world: World) -> None:
    whole = pixels(world.sample("whole", world.root / "stackformer" / "out", decode_batch=4))
    parts = pixels(world.sample("parts", world.root / "stackformer" / "out", decode_batch=3))
    half = pixels(world.sample("half", world.root / "stackformer" / "out", decode_precision="bf16"))
    assert np.abs(whole - parts).max() <= 1
    assert 0 < np.abs(whole - half).mean() < 2


def test_batches_that_a_gpu_has_no_room_for_are_lowered_and_it_is_said(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    drawn = Stackformer.from_pretrained(world.root / "stackformer" / "out").config
    settings = settings_of(batch=60, decode_batch=60, samples_per_shard=120)
    chosen = drawing(settings)
    need, decode = sampling_need(drawn, chosen, torch.float32, torch.bfloat16), decoding_need(DECODER)
    assert fitted(settings, drawn, DECODER, None) is settings
    plenty = int((need.of(60) + 5 * decode.of(60)) / ROOM)
    assert fitted(settings, drawn, DECODER, plenty) == settings and not capfd.readouterr().err
    tight = int((need.of(25) + decode.of(1)) / ROOM) + 10
    lowered = fitted(settings, drawn, DECODER, tight)
    assert 1 <= lowered.batch <= 25 and not 120 % lowered.batch and lowered.decode_batch < 60
    assert need.of(lowered.batch) + decode.of(lowered.decode_batch) <= ROOM * tight
    said = " ".join(capfd.readouterr().err.split())
    assert "sample.batch 60 and decode_batch 60 need" in said
    assert f"sampling {lowered.batch} at a time, decoding {lowered.decode_batch}" in said
    with pytest.raises(
        UserError, match="sampling one image needs 0.0 GB of GPU memory, and 0.0 GB are free: .* to bf16"
    ):
        fitted(settings, drawn, DECODER, 1000)


def test_samples_hold_an_image_for_each_index_and_cycle_through_the_classes(world: World) -> None:
    out = world.sample("samples", world.root / "stackformer" / "out", png_files=True)
    found = members(out)
    assert list(found) == [f"{i:08d}.{extension}" for i in range(10) for extension in ("png", "json")]
    told = [json.loads(data) for name, data in found.items() if name.endswith("json")]
    assert told == [{"index": i, "seed": 3, "cls": i % 3} for i in range(10)]
    assert sorted(path.name for path in out.glob("*.tar")) == ["000000.tar", "000001.tar", "000002.tar"]
    assert (out / "png" / "00000009.png").read_bytes() == found["00000009.png"]
    with Image.open(out / "grid.png") as grid, Image.open(out / "png" / "00000000.png") as image:
        assert image.size == (8, 8) and grid.width > 8 * image.width
    manifest = read_manifest(out, "samples")
    assert manifest.facts["count"] == 10 and manifest.facts["classes"] == ["circle", "square", "star"]


def test_samples_are_drawn_in_bf16_where_asked(world: World) -> None:
    out = world.sample("bf16", world.root / "stackformer" / "out", precision="bf16", num_images=4)
    assert len(members(out)) == 8
    assert read_manifest(out, "samples").facts["settings"]["precision"] == "bf16"


def test_equal_seeds_give_equal_bytes_and_shards_do_not_matter(world: World) -> None:
    stackformer = world.root / "stackformer" / "out"
    first, again = world.sample("first", stackformer), world.sample("again", stackformer)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }
    wider = members(world.sample("wider", stackformer, samples_per_shard=8))
    assert wider == members(first)
    more = members(world.sample("more", stackformer, num_images=12))
    assert {name: more[name] for name in members(first)} == members(first)
    other = members(world.sample("other", stackformer, seed=4))
    assert other["00000000.png"] != wider["00000000.png"]


def test_what_candidates_are_worth_is_a_mean_over_the_images(world: World) -> None:
    """However they are dealt to shards; what pads the last batch does not count."""
    Image.new("RGB", (8, 8), "red").save(world.root / "a.png")
    stackformer, found = world.root / "stackformer" / "out", []
    asked = {"edit": str(world.root / "a.png"), "redraw": "2,0,8,6", "candidates": 3, "num_images": 5}
    for batch, size in ((2, 2), (2, 8), (5, 5)):
        name = f"worth-{batch}-{size}"
        world.sample(name, stackformer, batch=batch, samples_per_shard=size, **asked)
        found.append(json.loads((world.root / name / "metrics" / "metrics.json").read_text()))
    worth = [numbers["effective_candidates"] for numbers in found]
    assert 1 < worth[0] < 3 and worth == pytest.approx([worth[2]] * 3)


def test_chosen_classes_are_cycled_through_by_name(world: World) -> None:
    out = world.sample("chosen", world.root / "stackformer" / "out", classes=["star", "circle"])
    told = [json.loads(data)["cls"] for name, data in members(out).items() if name.endswith("json")]
    assert told == [2, 0] * 5
    with pytest.raises(UserError, match=r"sample.classes names heart; .* knows circle, square, star"):
        world.sample("heart", world.root / "stackformer" / "out", classes=["heart"])


def test_sampling_goes_on_after_the_shards_that_are_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stackformer = world.root / "stackformer" / "out"
    whole = members(world.sample("uninterrupted", stackformer))
    seen: list[int] = []

    def stopping(index: int, *rest: Any) -> SampleRecord:
        seen.append(index)
        if seen.count(9) == 1 and index == 9:
            raise KeyboardInterrupt
        return SampleRecord(index, *rest)

    monkeypatch.setattr(sample, "SampleRecord", stopping)
    with pytest.raises(KeyboardInterrupt):
        world.sample("stopped", stackformer)
    assert members(world.sample("stopped", stackformer)) == whole
    assert seen == [*range(10), 8, 9]


def test_another_mqvae_than_the_tokens_were_made_by_is_refused(world: World) -> None:
    fingerprint = write_mqvae(world.root / "other_mqvae", 1)
    expected = read_manifest(world.root / "mqvae", "mqvae").fingerprint
    words = rf"made by MQ-VAE {expected[:4]}…, .*other_mqvae is {fingerprint[:4]}…: run `dvc repro"
    with pytest.raises(UserError, match=words):
        world.sample("refused", world.root / "stackformer" / "out", mqvae=world.root / "other_mqvae")


def test_captions_travel_from_the_tokens_to_the_prompts(world: World) -> None:
    stackformer = world.train("captioned", condition="text")
    assert (stackformer / TEXT_TOKENIZER).read_bytes() == (
        world.root / "tokens" / TEXT_TOKENIZER
    ).read_bytes()
    config = Stackformer.from_pretrained(stackformer).config
    assert (config.condition, config.condition_length) == ("text", 4)
    out = world.sample("prompted", stackformer, prompts=["two stars", "a red circle"])
    told = [json.loads(data)["prompt"] for name, data in members(out).items() if name.endswith("json")]
    assert told == ["two stars", "a red circle"] * 5
    with pytest.raises(UserError, match=r"sample.prompts is empty"):
        world.sample("unprompted", stackformer)


def test_a_stackformer_without_condition_says_so(world: World) -> None:
    stackformer = world.train("free", condition="none", cfg_dropout=0.0)
    out = world.sample("freely", stackformer, guidance_scale=1.0)
    assert json.loads(members(out)["00000003.json"]) == {"index": 3, "seed": 3}


def test_published_weights_are_a_start_for_others(world: World) -> None:
    first = world.root / "stackformer" / "out"
    again = world.train("started", init_from=first, steps=1, learning_rate=1e-9, ema_decay=0.0)
    weights = [list(Stackformer.from_pretrained(path).parameters()) for path in (first, again)]
    pairs = zip(*weights, strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_training_records_what_it_was_made_from_and_its_final_likelihood(world: World) -> None:
    tokens = read_manifest(world.root / "tokens", "token-shards")
    manifest = read_manifest(world.root / "stackformer" / "out", "stackformer")
    assert manifest.made_from == {"tokens": tokens.fingerprint}
    assert manifest.facts["mqvae"] == tokens.facts["mqvae"]
    numbers = json.loads((world.root / "stackformer" / "metrics" / "metrics.json").read_text())
    assert numbers["nats_per_image"] == pytest.approx(
        numbers["code_nats_per_image"] + numbers["position_nats_per_image"], rel=1e-6
    )


@pytest.mark.parametrize(
    ("facts", "changes", "message"),
    [
        (
            {"classes": None},
            {},
            "stackformer.condition is class, but .* has no classes; expected none or text",
        ),
        (
            {"text_length": None, "text_vocab": None},
            {"condition": "text"},
            "holds no captions: set tokenize.text_vocab",
        ),
        ({"counts": {"train": 24, "val": 0}}, {}, "holds no validation images; set shard.val_fraction > 0"),
        (
            {},
            {"model": NetworkConfig(16, 2, 1, 0, 0.0, "ascending")},
            "does not fit .*: position_layers is 0, and 8 of 16 positions are kept",
        ),
    ],
)
def test_tokens_that_lack_what_is_asked_for_are_refused(
    tmp_path: Path, facts: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    write_tokens(tmp_path / "tokens", "f" * 64, **facts)
    with pytest.raises(UserError, match=message):
        World(tmp_path).train(**changes)

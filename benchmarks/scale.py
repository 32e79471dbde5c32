"""The cost of an image at the paper's sizes: FLOPs, counted on the models, and bytes. The basis of docs/scale.md.

    python -m benchmarks.scale     writes benchmarks/results/scale.json

FLOPs (a multiply-add is two) are counted by torch on fake tensors, so nothing is computed. VGG-16's,
for the perceptual loss, are the published 15.5 G multiply-adds at 224 px, scaled to 256.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import commit
from models.mqvae import MQVAE, MQVAEConfig
from models.mqvae.discriminator import PatchDiscriminator
from models.stackformer import Stackformer, StackformerConfig
from settings.mqvae import MQVAESettings
from settings.stackformer import StackformerSettings
from workflow.params import load_params
from workspace.exact.manifest import write_json

RESULT = Path("benchmarks/results/scale.json")
PRESETS = {"imagenet": (1, 1000), "coco": (32, 16_384)}
"""Preset → codes per condition, and number of condition codes."""
VGG = 2 * 15.5e9 * (256 / 224) ** 2
BATCH = 2


def counted(model: torch.nn.Module, *inputs: torch.Tensor) -> float:
    """FLOPs of a forward pass, an image."""
    with FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() / BATCH


def first_stage(settings: MQVAESettings) -> dict[str, float]:
    """MQ-VAE: a forward pass, a training step, and a pass of the encoder alone."""
    config: MQVAEConfig = settings.model
    with FakeTensorMode():
        model, discriminator = (
            MQVAE(config),
            PatchDiscriminator(settings.loss.discriminator_channels, settings.loss.discriminator_layers),
        )
        image_BCHW = torch.empty(BATCH, 3, config.image_size, config.image_size)
        forward, judged = counted(model, image_BCHW), counted(discriminator, image_BCHW)
        with FlopCounterMode(display=False) as counter:
            model.tokenize(image_BCHW)
    perceptual = 3 * VGG if settings.perceptual.network == "vgg" else 0.0  # two images forward, one backward
    return {
        "parameters_m": sum(p.numel() for p in model.parameters()) / 1e6,
        "forward_gflop": forward / 1e9,
        "train_gflop": (3 * forward + 8 * judged + perceptual) / 1e9,
        "tokenize_gflop": counter.get_total_flops() / BATCH / 1e9,
        "tokens": float(config.num_kept),
        "checkpoint_mb": 16 * sum(p.numel() for p in model.parameters()) / 1e6,
    }


def second_stage(
    settings: StackformerSettings, first: MQVAEConfig, length: int, vocab: int
) -> dict[str, float]:
    """Stackformer: a forward pass over all tokens, and a training step."""
    config = StackformerConfig(
        network=settings.model,
        num_codes=first.num_codes,
        num_positions=first.num_positions,
        num_kept=first.num_kept,
        condition=settings.condition,
        condition_length=length,
        condition_vocab=vocab,
    )
    with FakeTensorMode():
        model = Stackformer(config).eval()
        codes_BN = torch.zeros(BATCH, config.num_kept, dtype=torch.int64)
        condition_BC = torch.zeros(BATCH, length, dtype=torch.int64)
        forward = counted(model, codes_BN, codes_BN, condition_BC)
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "parameters_m": parameters / 1e6,
        "forward_gflop": forward / 1e9,
        "train_gflop": 3 * forward / 1e9,
        "checkpoint_mb": 16 * parameters / 1e6,
    }


def bytes_an_image(folder: Path) -> float | None:
    """Mean size of the JPEG files below a folder, where it is here."""
    sizes = [path.stat().st_size for path in folder.resolve().rglob("*.jpg")] if folder.exists() else []
    return sum(sizes) / len(sizes) if sizes else None


def main() -> None:
    """Count, and write the result."""
    found: dict[str, Any] = {}
    for name, (length, vocab) in PRESETS.items():
        params = load_params(Path(f"presets/{name}.yaml"))
        mqvae = params.mqvae
        stackformer = params.stackformer
        found[name] = {
            "mqvae": first_stage(mqvae),
            "stackformer": second_stage(stackformer, mqvae.model, length, vocab),
        }
        cells = mqvae.model.num_positions
        found[name]["token_bytes"] = 2 * mqvae.model.num_kept + -(-cells // 8)
    found["jpeg_bytes_at_256_px"] = bytes_an_image(Path("data/flowers"))
    write_json(RESULT, found | {"commit": commit(), "command": "python -m benchmarks.scale"})
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()

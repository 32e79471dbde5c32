"""Row 4: Stackformer training from token shards.

Reading: images a second of one core from shards to checked arrays (N = 768, L = 1,024, blocks of 512), warm page cache.
Loading: the share of a training step that drawing its batch takes (the model of row 1, batch 4).
Encoding: a step from tokens against the same whose batch the MQ-VAE (256 px, f8) encodes first; on a GPU the 307 M model.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.harness import (
    ROOT,
    Claim,
    Result,
    alternate,
    at_least,
    at_most,
    main,
    measured,
    not_measured,
    seconds,
)
from benchmarks.row_01_sampling import CONFIG as SMALL
from benchmarks.row_02_sampling_gpu import CONFIG as LARGE
from benchmarks.row_03_training_gpu import TRAINING, one_step, random_batch
from benchmarks.tokens_made import write_random_tokens
from models.base.pretrained import config_from_json
from models.mqvae import MQVAE, MQVAEConfig
from models.stackformer import Stackformer, StackformerConfig
from shards.tokens import TokenFacts, TokenShards
from training.stackformer.batches import TokenBatch, TokenBatches
from training.stackformer.module import StackformerTrainingModule
from workspace.settings import read_tree

COUNTS = {"train": 40960, "val": 512}
BLOCK, SHARD, THREADS, PAIRS = 512, 20480, 2, 5
BATCH = 4


@dataclass(frozen=True)
class Alone:
    """The only worker, on the CPU."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def measure() -> Iterable[Result]:
    """Reading, loading, encoding."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        yield reading(made(Path(name) / "large", LARGE))
        yield loading(made(Path(name) / "small", SMALL))
    yield encoding(torch.device("cpu"), SMALL, batch=1, pairs=3)
    if torch.cuda.is_available():
        yield encoding(torch.device("cuda"), LARGE, batch=16, pairs=PAIRS)
    else:
        yield not_measured(encoding_claim("cuda"), "no CUDA GPU here; run it where one is", {"batch": 16})


def made(folder: Path, config: StackformerConfig) -> TokenShards:
    """Random tokens for a model."""
    grid = (config.num_positions // 16, 16)
    facts = TokenFacts(
        grid, config.num_codes, config.num_kept, ("a", "b"), None, None, COUNTS, "adaptive", "0" * 64
    )
    return write_random_tokens(folder, facts, BLOCK, SHARD)


def reading(tokens: TokenShards) -> Result:
    """Images a processor second, everything checked: SHA-256, codes, masks, keys."""
    claim = Claim(
        row=4,
        name="tokens_reading",
        title="token shards read and checked, one core",
        unit="images/s",
        better="higher",
        against="",
        bar=at_least(200_000, "ours"),
    )

    def rate() -> float:
        began = time.process_time()
        images = len(tokens.load("train").keys)
        return images / (time.process_time() - began)

    facts = tokens.facts
    shapes = {"images": COUNTS["train"], "N": facts.num_kept, "L": facts.num_positions, "block": BLOCK}
    note = "per second of processor time; SHA-256 of the files, every code, mask and key looked at"
    return measured(claim, alternate(rate, pairs=PAIRS), shapes, note)


def loading(tokens: TokenShards) -> Result:
    """Share of a step in per cent."""
    claim = Claim(
        row=4,
        name="tokens_loading",
        title="drawing a batch of tokens, share of the training step",
        unit="%",
        better="lower",
        against="",
        bar=at_most(2.0),
    )
    settings = TRAINING.replaced(global_batch=BATCH, micro_batch=BATCH)
    batches = TokenBatches(tokens.load("train"), SMALL, settings, Alone())
    training_module = training_module_of(SMALL, torch.device("cpu"), batches(0)[0])
    steps = iter(range(1, 100))

    def share() -> float:
        began = time.perf_counter()
        [batch] = batches(next(steps))
        loaded = time.perf_counter()
        one_step(training_module, batch)
        return 100 * (loaded - began) / (time.perf_counter() - began)

    return measured(
        claim, alternate(share, pairs=PAIRS), {"batch": BATCH, "N": 192, "width": 512, "layers": "12 + 4"}
    )


def training_module_of(
    config: StackformerConfig, device: torch.device, batch: TokenBatch
) -> StackformerTrainingModule:
    """In fp32 on a CPU, in bf16 and compiled on a GPU."""
    torch.manual_seed(0)
    on_gpu = device.type == "cuda"
    plan = TRAINING if on_gpu else TRAINING.replaced(precision="fp32", compile=False)
    return StackformerTrainingModule(
        Stackformer(config), plan.replaced(micro_batch=len(batch)), batch, device
    )


def encoding_claim(device: str) -> Claim:
    """The bar is for GPUs."""
    return Claim(
        row=4,
        name=f"tokens_encoding_{device}",
        title=f"Stackformer step from tokens, {'GPU' if device == 'cuda' else 'CPU'}",
        unit="s",
        better="lower",
        against="the MQ-VAE encoding each batch",
        bar=at_least(1.5) if device == "cuda" else None,
    )


def encoding(device: torch.device, small: StackformerConfig, batch: int, pairs: int) -> Result:
    """A step from tokens against encoding and a step."""
    preset = read_tree(ROOT / "presets" / "ffhq.yaml")
    mqvae = MQVAE(config_from_json(MQVAEConfig, preset["mqvae"]["model"])).eval().to(device)
    config = replace(small, num_positions=mqvae.config.num_positions, num_kept=mqvae.config.num_kept)
    tokens = random_batch(config, batch)
    training_module = training_module_of(config, device, tokens)
    image_BCHW = torch.rand(batch, 3, 256, 256, device=device) * 2 - 1

    @torch.no_grad()
    def encode() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            mqvae.tokenize(image_BCHW)

    def step() -> None:
        one_step(training_module, tokens)

    ours, reference = timed(device, step), timed(device, encode, step)
    shapes = {"batch": batch, "pixels": 256, "N": config.num_kept, "width": config.network.width}
    return measured(encoding_claim(device.type), alternate(ours, reference, pairs), shapes)


def timed(device: torch.device, *works: Callable[[], None]) -> Callable[[], float]:
    """Seconds of these, one after the other, the GPU's work included."""

    def run() -> None:
        for work in works:
            work()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return lambda: seconds(run)


if __name__ == "__main__":
    main(measure)

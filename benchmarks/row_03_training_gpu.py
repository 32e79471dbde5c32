"""Row 3: a training step of the 307 M Stackformer (1,024 wide, 18 + 6 layers, N = 768) on a GPU, bf16, compiled.

The model's FLOPs (three times the forward pass's matrix products, causal attention counted half) over the measured rate of a
large bf16 matrix product. Needs a CUDA GPU; the count is tested against torch's own counter on the CPU.
"""

from collections.abc import Iterable

import torch

from benchmarks.floors import decoding_weights, measure_machine
from benchmarks.harness import Claim, Floor, Pairs, Result, at_least, main, measured, not_measured, seconds
from benchmarks.row_02_sampling_gpu import CONFIG
from models.stackformer import Stackformer, StackformerConfig
from settings.stackformer import StackformerSettings
from training.stackformer.batches import TokenBatch
from training.stackformer.module import StackformerTrainingModule

BATCH, STEPS = 16, 10
TRAINING = StackformerSettings(
    steps=1000,
    learning_rate=3e-4,
    warmup_steps=10,
    min_lr_ratio=0.1,
    beta1=0.9,
    beta2=0.95,
    weight_decay=0.01,
    max_grad_norm=1.0,
    ema_decay=0.999,
    precision="bf16",
    compile=True,
    seed=0,
    global_batch=BATCH,
    micro_batch=BATCH,
    init_from=None,
    log_every=10,
    validate_every=1000,
    validate_images=BATCH,
    checkpoint_every=1000,
    condition="class",
    cfg_dropout=0.1,
    model=CONFIG.network,
)


def training_flops(config: StackformerConfig, batch: int) -> float:
    """FLOPs of a step: forward, and twice that backward; a multiply-add counts as two, masked attention is not counted."""
    network = config.network
    width, kept = network.width, config.num_kept
    code, position = network.code_layers * config.length, network.position_layers * kept
    linear = 2 * 12 * width**2 * (code + position) + 2 * width * kept * (
        config.num_codes + config.num_positions
    )
    attention = 2 * width * (code * config.length + position * kept)
    return 3.0 * batch * (linear + attention)


def random_batch(config: StackformerConfig, batch: int) -> TokenBatch:
    """Codes anywhere, positions that ascend."""
    codes = torch.randint(config.num_codes, (batch, config.num_kept))
    ranks = torch.rand(batch, config.num_positions).argsort(dim=1)[:, : config.num_kept]
    return TokenBatch(codes, ranks.sort(dim=1).values, torch.zeros(batch, 1, dtype=torch.int64))


def measure() -> Iterable[Result]:
    """One result."""
    claim = Claim(
        row=3,
        name="training_gpu",
        title="Stackformer training on a GPU, 307 M, N = 768",
        unit="% of the matrix rate",
        better="higher",
        against="",
        bar=at_least(50.0, "ours"),
    )
    millions = (
        decoding_weights(CONFIG) + CONFIG.network.width * (CONFIG.num_codes + 2 * CONFIG.num_positions)
    ) / 1e6
    shapes = {"batch": BATCH, "width": 1024, "layers": "18 + 6", "N": 768, "parameters": f"{millions:.0f} M"}
    if not torch.cuda.is_available():
        yield not_measured(claim, "no CUDA GPU here; run it where one is", shapes)
        return
    rate = measure_machine(torch.device("cuda"), torch.bfloat16, 8192).flops
    shares = tuple(100 * training_flops(CONFIG, BATCH) / taken / rate for taken in step_seconds())
    yield measured(claim, Pairs(shares, ()), shapes, "", Floor(100.0, f"{rate / 1e12:.0f} TFLOP/s measured"))


def step_seconds() -> list[float]:
    """Seconds of each step, after three to compile and warm up."""
    device = torch.device("cuda")
    torch.manual_seed(0)
    batch = random_batch(CONFIG, BATCH)
    training_module = StackformerTrainingModule(Stackformer(CONFIG), TRAINING, batch, device)

    def run() -> None:
        one_step(training_module, batch)
        torch.cuda.synchronize()

    for _ in range(3):
        run()
    return [seconds(run) for _ in range(STEPS)]


def one_step(training_module: StackformerTrainingModule, batch: TokenBatch) -> None:
    """Forward, backward, update."""
    training_module.optimizers["model"].zero_grad(set_to_none=True)
    training_module.micro_step(batch, 0, 1.0)
    training_module.finish_step(0, lambda tensor: tensor)


if __name__ == "__main__":
    main(measure)

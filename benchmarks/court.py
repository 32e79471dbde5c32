"""What each arm of the court costs: images per second of one thread's processor time, in both trainings and in sampling.

python -m benchmarks.court --out docs/results/court_costs.json          (about two minutes; `make court` renders it)

The runs' own seconds would compare the machines' other work: here all arms take turns, for some rounds, and each one's fastest
counts. Weights are new, because none of this depends on them; settings and batches are the arms' own, but for sampling's batch.

Shapes: B images, N kept codes.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from benchmarks.mqvae_made import no_pictures
from experiments.arm import ARMS, settings_of
from inference.sampling.sample import ImageSampler
from models.mqvae import MQVAE
from models.mqvae.masker import top_positions
from models.stackformer import Stackformer, StackformerConfig
from settings.mqvae import MQVAESettings
from settings.stackformer import StackformerSettings
from training.mqvae.module import ImageBatch, MQVAETrainingModule
from training.stackformer.batches import TokenBatch
from training.stackformer.module import StackformerTrainingModule
from workflow.params import Params, load_params
from workspace.commands import parser_of
from workspace.exact.manifest import write_json
from workspace.progress import say

TABLE = Path("experiments/court/params.yaml")
ROUNDS, SAMPLED = 3, 32
CPU = torch.device("cpu")
Timed = tuple[int, Callable[[], object]]
"""How many images a call handles, and the call."""


def mqvae_step(settings: MQVAESettings) -> Timed:
    """One training step, with quantisation."""
    size, batch = settings.model.image_size, settings.global_batch
    model = MQVAE(settings.model)
    module = MQVAETrainingModule(model, settings, None, torch.zeros(1, 3, size, size), CPU, no_pictures)
    images = ImageBatch(torch.rand(batch, 3, size, size) * 2 - 1, 0, list(range(batch)))

    def step(number: int) -> None:
        for optimizer in module.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        module.micro_step(images, number, 1.0)
        module.finish_step(number, lambda tensor: tensor)

    step(settings.quantize_start - 1)  # which starts the codebook
    return batch, lambda: step(settings.quantize_start)


def stackformer_of(params: Params) -> Stackformer:
    """A new one for the arm's tokens."""
    mqvae = params.mqvae.model
    sizes = (mqvae.num_codes, mqvae.num_positions, mqvae.num_kept)
    return Stackformer(StackformerConfig(params.stackformer.model, *sizes, "none", 1, 1))


def stackformer_step(model: Stackformer, settings: StackformerSettings) -> Timed:
    """One training step."""
    batch, config = settings.micro_batch, model.config
    codes_BN = torch.randint(config.num_codes, (batch, config.num_kept))
    positions_BN = top_positions(torch.rand(batch, config.num_positions), config.num_kept)
    tokens = TokenBatch(codes_BN, positions_BN, torch.zeros(batch, 1, dtype=torch.int64))
    module = StackformerTrainingModule(model, settings, tokens, CPU)

    def step() -> None:
        for optimizer in module.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        module.micro_step(tokens, 0, 1.0)
        module.finish_step(0, lambda tensor: tensor)

    return batch, step


def sampling(model: Stackformer, params: Params) -> Timed:
    """Draw and decode some images."""
    settings = params.sample.replaced(batch=SAMPLED)
    draw = ImageSampler(model.eval(), MQVAE(params.mqvae.model).eval(), settings, CPU)
    condition_BC = torch.zeros(SAMPLED, 1, dtype=torch.int64)

    def some() -> None:
        with torch.inference_mode():
            draw(condition_BC, range(SAMPLED))

    return SAMPLED, some


def ways_of(base: str, arm: str, params_file: Path) -> dict[str, Timed]:
    """The three things that are timed."""
    params = load_params(params_file, settings_of(ARMS, base, arm, 0))
    return {
        "mqvae": mqvae_step(params.mqvae),
        "stackformer": stackformer_step(stackformer_of(params), params.stackformer),
        "sample": sampling(stackformer_of(params), params),
    }


def main() -> None:
    """The command line."""
    parser = parser_of("benchmarks.court", __doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    parser.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        help="params file that the arms change (params.yaml)",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    ways = {row["arm"]: ways_of(table["base"], row["arm"], arguments.params) for row in table["rows"]}
    rates = {arm: dict.fromkeys(timed, 0.0) for arm, timed in ways.items()}
    for number in range(ROUNDS):
        for arm, timed in ways.items():
            for name, (images, call) in timed.items():
                began = time.process_time()
                call()
                rates[arm][name] = max(rates[arm][name], images / (time.process_time() - began))
        say(f"costs: round {number + 1} of {ROUNDS}")
    write_json(
        arguments.out,
        {"command": "python -m benchmarks.court", "rounds": ROUNDS, "threads": 1, "costs": rates},
    )


if __name__ == "__main__":
    main()

"""Figure 6(b): images a second against the mask ratio, with caches and with full recomputation.

The model of row 1 (512 wide, L = 256) at 0, 25, 50 and 75 % masked, batch 4, fp32, two threads. Nothing masked is the raster
GPT of the same 16 layers, which predicts no positions. The recomputed runs are integrated from four prefix lengths each.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch

from benchmarks.harness import Claim, Result, alternate, main, measured, seconds
from benchmarks.literal_sampling import seconds_by_recomputation
from benchmarks.row_01_sampling import CONFIG, SETTINGS, THREADS
from models.sampling import Sampler
from models.stackformer import Stackformer, StackformerConfig

BATCH, PAIRS = 4, 2
RATIOS = (0, 25, 50, 75)


def config_of(ratio: int) -> StackformerConfig:
    """With `ratio` per cent of the positions masked."""
    kept = round((1 - ratio / 100) * CONFIG.num_positions)
    network = CONFIG.network
    if not ratio:
        layers = network.code_layers + network.position_layers
        network = replace(network, code_layers=layers, position_layers=0)
    return replace(CONFIG, network=network, num_kept=kept)


def measure() -> Iterable[Result]:
    """A result a ratio."""
    torch.set_num_threads(THREADS)
    for ratio in RATIOS:
        yield at_ratio(ratio)


def at_ratio(ratio: int) -> Result:
    """Cached against recomputed."""
    config = config_of(ratio)
    torch.manual_seed(0)
    model = Stackformer(config).eval()
    sampler, condition = Sampler(model, BATCH, SETTINGS), torch.zeros(BATCH, 1, dtype=torch.int64)
    kept = config.num_kept
    knots = (0, kept // 3, 2 * kept // 3, kept - 1)
    claim = Claim(
        row=13,
        name=f"figure_6b_{ratio:02d}",
        title=f"images a second, {ratio} % masked",
        unit="images/s",
        better="higher",
        against="full recomputation",
        bar=None,
    )
    pairs = alternate(
        lambda: BATCH / seconds(lambda: sampler(condition, range(BATCH))),
        lambda: BATCH / seconds_by_recomputation(model, condition, SETTINGS, knots),
        PAIRS,
        warm_up=False,
    )
    shapes = {"batch": BATCH, "mask_ratio": ratio, "N": kept, "L": config.num_positions, "width": 512}
    return measured(claim, pairs, shapes, "fp32, two threads; without the decoder")


if __name__ == "__main__":
    main(measure)

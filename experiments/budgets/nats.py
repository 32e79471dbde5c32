"""What a Stackformer spends on an image's codes, positions and length, and whether the length would be cheaper alone.

By the chain rule, a length that is drawn first costs as much as stops do, if both are learned perfectly: -ln p(N | class) at
first, and less at the positions, which know N. What is measured here is the first part: nats of the stops against those of N
under the training images' histogram of the class. If stops cost less, what has been drawn predicts the end.

Shapes: B images, N slots.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.budgets.gains import interval
from models.stackformer import Stackformer, StackformerConfig
from models.stackformer.support import previous_positions, stop_chance
from shards.tokens import TokenShards, TokenSplit, flat_positions

BATCH = 100
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Spent:
    """Nats of each held-out image, [B] each.

    Attributes:
        codes: of its codes.
        positions: of its positions alone.
        going_on: of the stops that it did not take.
        ending: of the one that it took.
        length_alone: of N under the training images' histogram of its class; zeros where all have one N.
    """

    codes: Numbers
    positions: Numbers
    going_on: Numbers
    ending: Numbers
    length_alone: Numbers

    @property
    def all(self) -> Numbers:
        """All nats of the image."""
        return self.codes + self.positions + self.going_on + self.ending

    @property
    def means(self) -> dict[str, Any]:
        """Mean of each part, and of their sum with its 95 % interval."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        found = {f"{name}_nats": round(float(nats.mean()), 3) for name, nats in parts.items()}
        return found | {"nats": interval(self.all)}


class Batch(NamedTuple):
    """Images by class, int64 each; slots after an image's last code have code 0 and position L."""

    codes_BN: torch.Tensor
    positions_BN: torch.Tensor
    condition_BC: torch.Tensor


def held_out(split: TokenSplit, config: StackformerConfig) -> Iterator[Batch]:
    """The images of a split in batches, with a slot for the stop."""
    for first in range(0, len(split), BATCH):
        rows_B = np.arange(first, min(first + BATCH, len(split)))
        rows, lengths_B = split.rows(rows_B), split.lengths_of(rows_B)
        held_BN = np.arange(min(int(lengths_B.max()) + 1, config.num_kept)) < lengths_B[:, None]
        codes_BN, positions_BN = (
            np.zeros(held_BN.shape, np.int64),
            np.full(held_BN.shape, config.num_positions),
        )
        codes_BN[held_BN] = rows.codes.ravel()
        positions_BN[held_BN] = flat_positions(rows.kept, config.num_positions)
        assert rows.cls is not None
        arrays = codes_BN, positions_BN, rows.cls.astype(np.int64)[:, None]
        yield Batch(*map(torch.from_numpy, arrays))


@torch.no_grad()
def spent(stackformer: Path, tokens: Path) -> Spent:
    """What a trained Stackformer spends on the held-out images of its tokens."""
    model, shards = Stackformer.from_pretrained(stackformer), TokenShards.open(tokens)
    split = shards.load("val")
    batches = held_out(split, model.config)
    columns = zip(*(_of_batch(model, batch) for batch in batches), strict=True)
    codes, positions, going_on, ending = map(np.concatenate, columns)
    alone = length_alone(shards.load("train"), split) if model.config.stops else np.zeros(len(split))
    return Spent(codes, positions, going_on, ending, alone)


def _of_batch(model: Stackformer, batch: Batch) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Nats of codes, positions, stops not taken and the stop taken, [B] each."""
    output = model(batch.codes_BN, batch.positions_BN, batch.condition_BC)
    loss = model.loss(output, batch.codes_BN, batch.positions_BN)
    going_BN, ending_BN = torch.zeros_like(loss.position_BN), torch.zeros_like(loss.position_BN)
    if output.stop_logits_BN is not None:
        going_BN, ending_BN = _stops(model, output.stop_logits_BN, batch.positions_BN)
    summed = (loss.code_BN, loss.position_BN - going_BN - ending_BN, going_BN, ending_BN)
    codes, positions, going, ending = (part_BN.double().sum(dim=1).numpy() for part_BN in summed)
    return codes, positions, going, ending


def _stops(
    model: Stackformer, logits_BN: torch.Tensor, positions_BN: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nats of stops that were not taken, and of those that were, where a sequence might do either."""
    held_BN = positions_BN < model.config.num_positions
    step_N = torch.arange(positions_BN.shape[1])
    chance = stop_chance(model.config, previous_positions(positions_BN), step_N, model.config.fewest)
    free_BN = chance.may_BM & ~chance.must_BM & (step_N <= held_BN.sum(dim=1, keepdim=True))
    softplus = torch.nn.functional.softplus
    return (
        softplus(logits_BN).where(free_BN & held_BN, 0.0),
        softplus(-logits_BN).where(free_BN & ~held_BN, 0.0),
    )


def length_alone(train: TokenSplit, val: TokenSplit) -> Numbers:
    """-ln p(N | class), [B], of held-out images; each length that occurs counts half an image more than there are."""
    occurring, place = np.unique(np.concatenate([train.lengths, val.lengths]), return_inverse=True)
    of_train, of_val = np.split(place, [len(train)])
    assert train.cls is not None and val.cls is not None
    count = np.full((int(max(train.cls.max(), val.cls.max())) + 1, len(occurring)), 0.5)
    np.add.at(count, (train.cls, of_train), 1.0)
    share = count / count.sum(axis=1, keepdims=True)
    found: Numbers = -np.log(share[val.cls, of_val])
    return found

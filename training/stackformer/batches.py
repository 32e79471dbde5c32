"""Micro-batches of tokens, in an order that depends only on (seed, step).

The whole split is in memory, so nothing is read ahead. The choice of an image's caption, and whether its condition is dropped
for guidance, are keyed by (seed, epoch, sample).

Shapes: B images, N kept codes, L positions, C = N_c conditions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.base.moving import sent
from models.stackformer import StackformerConfig
from settings.stackformer import StackformerSettings
from shards.tokens import TokenSplit
from shards.tokens.blocks import unpack_positions
from training.loop.train import Workers
from workspace.exact.order import batch_indices
from workspace.exact.seeds import hashed_unit, sample_seed


@dataclass(frozen=True)
class TokenBatch:
    """A micro-batch, int64: codes in 0 … K-1, positions ascending in 0 … L-1, condition or null codes."""

    codes_BN: Tensor
    positions_BN: Tensor
    condition_BC: Tensor

    def __len__(self) -> int:
        """B."""
        return len(self.codes_BN)

    def to(self, device: torch.device) -> "TokenBatch":
        """The same on a device."""
        parts = (self.codes_BN, self.positions_BN, self.condition_BC)
        return TokenBatch(*(sent(part, device) for part in parts))

    def split(self, size: int) -> list["TokenBatch"]:
        """Batches of at most `size` images, in order."""
        parts = (self.codes_BN, self.positions_BN, self.condition_BC)
        return [TokenBatch(*row) for row in zip(*(torch.split(part, size) for part in parts), strict=True)]


def token_batch(
    split: TokenSplit, config: StackformerConfig, indices: Sequence[int], captions: Sequence[int]
) -> TokenBatch:
    """The images of a split at `indices`; image b gets caption `captions[b]` modulo its number of captions."""
    rows_B = np.asarray(indices, dtype=np.int64)
    positions_BN = unpack_positions(split.kept[rows_B], config.num_positions, config.num_kept)
    codes_BN = torch.from_numpy(split.codes[rows_B].astype(np.int64))
    return TokenBatch(codes_BN, torch.from_numpy(positions_BN), _condition(split, config, rows_B, captions))


def _condition(
    split: TokenSplit, config: StackformerConfig, rows_B: np.ndarray, captions: Sequence[int]
) -> Tensor:
    if config.condition == "none":
        return torch.full((len(rows_B), 1), config.null_code)
    if config.condition == "class":
        assert split.cls is not None
        return torch.from_numpy(split.cls[rows_B].astype(np.int64))[:, None]
    assert split.text is not None and split.caption_count is not None
    count_B = split.caption_count[rows_B].astype(np.int64)
    chosen_B = np.asarray(captions, dtype=np.int64) % np.maximum(count_B, 1)
    text_BC = torch.from_numpy(split.text[rows_B, chosen_B].astype(np.int64))
    return torch.where(torch.from_numpy(count_B == 0)[:, None], config.null_code, text_BC)


def held_out(split: TokenSplit, config: StackformerConfig, count: int) -> TokenBatch:
    """The first `count` images of a split, with their first captions and no condition dropped."""
    indices = range(min(count, len(split.codes)))
    return token_batch(split, config, indices, [0] * len(indices))


class TokenBatches:
    """Callable: step → this worker's micro-batches.

    Args:
        split: the training tokens.
        config: the model's config.
        settings: seed, batch sizes, and the share of samples whose condition is replaced by the null code.
        workers: the group; each worker gets its share of a step.
    """

    def __init__(
        self,
        split: TokenSplit,
        config: StackformerConfig,
        settings: StackformerSettings,
        workers: Workers,
    ) -> None:
        self.split, self.config, self.settings = split, config, settings
        self.mine = settings.mine(workers.rank, workers.size)

    def __call__(self, step: int) -> list[TokenBatch]:
        """This worker's micro-batches of a step."""
        settings = self.settings
        samples = batch_indices(settings.seed, step, settings.global_batch, [len(self.split.codes)], 1)
        size = settings.micro_batch
        return [self._micro_batch(samples[number * size : (number + 1) * size]) for number in self.mine]

    def _micro_batch(self, samples: Sequence[tuple[int, int]]) -> TokenBatch:
        seed = self.settings.seed
        captions = [sample_seed(seed, epoch, index, "caption") for epoch, index in samples]
        draws = [hashed_unit(seed, epoch, index, "drop") for epoch, index in samples]
        batch = token_batch(self.split, self.config, [index for _, index in samples], captions)
        dropped_B1 = (torch.tensor(draws, dtype=torch.float64) < self.settings.cfg_dropout)[:, None]
        condition_BC = torch.where(dropped_B1, self.config.null_code, batch.condition_BC)
        return TokenBatch(batch.codes_BN, batch.positions_BN, condition_BC)

"""Micro-batches of tokens, in an order that depends only on (seed, step).

The whole split is in memory, so nothing is read ahead. The choice of an image's caption, and whether its condition is dropped
for guidance, are keyed by (seed, epoch, sample).

If images have different numbers of codes, batches are bucketed by length: `WINDOW` consecutive ones are sorted and dealt again.

Shapes: B images, N kept codes (slots, where their number differs), L positions, C = N_c conditions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.base.moving import sent
from models.stackformer import StackformerConfig
from settings.stackformer import StackformerSettings
from shards.tokens import TokenSplit
from shards.tokens.blocks import flat_positions, unpack_positions
from training.loop.train import Workers
from workspace.exact.order import batch_indices, bucketed
from workspace.exact.seeds import hashed_unit, sample_seed

WINDOW = 32
"""Batches that are sorted by length together: a batch then spans about a 32nd of the lengths."""
SLOTS = 8
"""Slots of a batch are a multiple of it, or the most codes of an image."""


@dataclass(frozen=True)
class TokenBatch:
    """A micro-batch, int64: codes in 0 … K-1, positions ascending in 0 … L-1, condition or null codes.

    Slots after an image's last code, where numbers differ, have code 0 and position L.
    """

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
    if config.stops:
        codes_BN, positions_BN = _padded(split, config, rows_B)
    else:
        codes_BN = split.codes[rows_B].astype(np.int64)
        positions_BN = unpack_positions(split.kept[rows_B], config.num_positions, config.num_kept)
    condition_BC = _condition(split, config, rows_B, captions)
    return TokenBatch(torch.from_numpy(codes_BN), torch.from_numpy(positions_BN), condition_BC)


def _padded(
    split: TokenSplit, config: StackformerConfig, rows_B: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes and positions, [B, N] each: a slot more than the longest has, for its stop, rounded up so that shapes recur."""
    lengths_B = split.lengths[rows_B]
    slots = min(-(-(int(lengths_B.max()) + 1) // SLOTS) * SLOTS, config.num_kept)
    held_BN = np.arange(slots) < lengths_B[:, None]
    codes_BN = np.zeros(held_BN.shape, np.int64)
    positions_BN = np.full(held_BN.shape, config.num_positions, np.int64)
    codes_BN[held_BN], _ = split.codes_at(rows_B)
    positions_BN[held_BN] = flat_positions(split.kept[rows_B], config.num_positions)
    return codes_BN, positions_BN


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
    indices = range(min(count, len(split.keys)))
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
        self._lengths = split.lengths
        self._window: tuple[int, list[list[tuple[int, int]]]] | None = None  # a copy of what the step gives

    def __call__(self, step: int) -> list[TokenBatch]:
        """This worker's micro-batches of a step."""
        settings = self.settings
        samples = self._samples(step)
        size = settings.micro_batch
        return [self._micro_batch(samples[number * size : (number + 1) * size]) for number in self.mine]

    def _samples(self, step: int) -> Sequence[tuple[int, int]]:
        seed, batch, images = self.settings.seed, self.settings.global_batch, len(self.split.keys)
        if not self.config.stops:
            return batch_indices(seed, step, batch, [images], 1)
        number, place = divmod(step, WINDOW)
        if self._window is None or self._window[0] != number:
            self._window = number, bucketed(seed, number, batch, self._lengths, WINDOW)
        return self._window[1][place]

    def _micro_batch(self, samples: Sequence[tuple[int, int]]) -> TokenBatch:
        seed = self.settings.seed
        captions = [sample_seed(seed, epoch, index, "caption") for epoch, index in samples]
        draws = [hashed_unit(seed, epoch, index, "drop") for epoch, index in samples]
        batch = token_batch(self.split, self.config, [index for _, index in samples], captions)
        dropped_B1 = (torch.tensor(draws, dtype=torch.float64) < self.settings.cfg_dropout)[:, None]
        condition_BC = torch.where(dropped_B1, self.config.null_code, batch.condition_BC)
        return TokenBatch(batch.codes_BN, batch.positions_BN, condition_BC)

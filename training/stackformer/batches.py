"""Micro-batches of tokens, in an order that depends only on (seed, step).

A split is in memory or mapped, so nothing is read ahead. The choice of an image's caption, and whether its condition is dropped
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
from shards.tokens import MappedTokens, TokenRows, TokenSplit
from shards.tokens.blocks import flat_positions, unpack_positions
from training.loop.train import Workers
from workspace.exact.order import DataOrder, bucketed
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


Tokens = TokenSplit | MappedTokens
GROUP = 16
"""Tars of a mapped split whose images are shuffled together; a split in memory is shuffled whole."""


def token_batch(
    split: Tokens, config: StackformerConfig, indices: Sequence[int], captions: Sequence[int]
) -> TokenBatch:
    """The images of a split at `indices`; image b gets caption `captions[b]` modulo its number of captions."""
    rows = split.rows(np.asarray(indices, dtype=np.int64))
    if config.stops:
        codes_BN, positions_BN = _padded(rows, config)
    else:
        codes_BN = rows.codes.astype(np.int64)
        positions_BN = unpack_positions(rows.kept, config.num_positions, config.num_kept)
    condition_BC = _condition(rows, config, captions)
    return TokenBatch(torch.from_numpy(codes_BN), torch.from_numpy(positions_BN), condition_BC)


def _padded(rows: TokenRows, config: StackformerConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes and positions, [B, N] each: a slot more than the longest has, for its stop, rounded up so that shapes recur."""
    lengths_B = np.bitwise_count(rows.kept).sum(axis=1, dtype=np.int64)
    slots = min(-(-(int(lengths_B.max()) + 1) // SLOTS) * SLOTS, config.num_kept)
    held_BN = np.arange(slots) < lengths_B[:, None]
    codes_BN = np.zeros(held_BN.shape, np.int64)
    positions_BN = np.full(held_BN.shape, config.num_positions, np.int64)
    codes_BN[held_BN] = rows.codes.ravel()
    positions_BN[held_BN] = flat_positions(rows.kept, config.num_positions)
    return codes_BN, positions_BN


def _condition(rows: TokenRows, config: StackformerConfig, captions: Sequence[int]) -> Tensor:
    if config.condition == "none":
        return torch.full((len(rows.kept), 1), config.null_code)
    if config.condition == "class":
        assert rows.cls is not None
        return torch.from_numpy(rows.cls.astype(np.int64))[:, None]
    assert rows.text is not None and rows.caption_count is not None
    count_B = rows.caption_count.astype(np.int64)
    chosen_B = np.asarray(captions, dtype=np.int64) % np.maximum(count_B, 1)
    text_BC = torch.from_numpy(rows.text[np.arange(len(count_B)), chosen_B].astype(np.int64))
    return torch.where(torch.from_numpy(count_B == 0)[:, None], config.null_code, text_BC)


def held_out(split: Tokens, config: StackformerConfig, count: int) -> TokenBatch:
    """The first `count` images of a split, with their first captions and no condition dropped."""
    indices = range(min(count, len(split)))
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
        split: Tokens,
        config: StackformerConfig,
        settings: StackformerSettings,
        workers: Workers,
    ) -> None:
        self.split, self.config, self.settings = split, config, settings
        self.mine = settings.mine(workers.rank, workers.size)
        sizes, group = ((len(split),), 1) if isinstance(split, TokenSplit) else (split.shard_sizes, GROUP)
        self.order = DataOrder(settings.seed, sizes, group)
        self._window: tuple[int, list[list[tuple[int, int]]]] | None = None  # a copy of what the step gives

    def __call__(self, step: int) -> list[TokenBatch]:
        """This worker's micro-batches of a step."""
        settings = self.settings
        samples = self._samples(step)
        size = settings.micro_batch
        return [self._micro_batch(samples[number * size : (number + 1) * size]) for number in self.mine]

    def _samples(self, step: int) -> Sequence[tuple[int, int]]:
        batch = self.settings.global_batch
        if not self.config.stops:
            return self.order.batch(step, batch)
        number, place = divmod(step, WINDOW)
        if self._window is None or self._window[0] != number:
            self._window = number, bucketed(self.order, number, batch, self.split.lengths_of, WINDOW)
        return self._window[1][place]

    def _micro_batch(self, samples: Sequence[tuple[int, int]]) -> TokenBatch:
        seed = self.settings.seed
        captions = [sample_seed(seed, epoch, index, "caption") for epoch, index in samples]
        draws = [hashed_unit(seed, epoch, index, "drop") for epoch, index in samples]
        batch = token_batch(self.split, self.config, [index for _, index in samples], captions)
        dropped_B1 = (torch.tensor(draws, dtype=torch.float64) < self.settings.cfg_dropout)[:, None]
        condition_BC = torch.where(dropped_B1, self.config.null_code, batch.condition_BC)
        return TokenBatch(batch.codes_BN, batch.positions_BN, condition_BC)

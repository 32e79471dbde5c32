"""How much memory drawing and decoding need, before they are begun: the code itself is run on meta tensors, which hold
nothing, and what would be alive at once is counted.

Not in it: an allocator's rounding, and libraries' workspaces but for `WORKSPACE`.
"""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from models.mqvae import MQVAE, MQVAEConfig
from models.sampling.sampler import BUCKET, Sampler, SamplingSettings
from models.stackformer import Stackformer, StackformerConfig

META = torch.device("meta")
HALVES = (torch.bfloat16, torch.float16)
WORKSPACE: Mapping[str, float] = {"fp32": 1.5, "bf16": 1.05}
"""Decoding's need with cuDNN's workspaces over its tensors', by precision, on an H200 at 256 px (docs/results/gpu.md)."""
ROOM = 0.9
"""Share of the free memory of a GPU to plan with: libraries have workspaces, and allocators leave gaps."""


class LiveBytes(TorchDispatchMode):
    """Counts bytes of live tensors that were created inside the block: `now`, and `peak`, the maximum so far."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count its outputs; inputs that were created outside are not counted."""
        self._meet((args, kwargs), counted=False)
        made = func(*args, **(kwargs or {}))
        self._meet(made, counted=True)
        return made

    def _meet(self, values: Any, counted: bool) -> None:
        for value in tree_iter(values):
            if isinstance(value, Tensor) and id(storage := value.untyped_storage()) not in self._known:
                self._known.add(id(storage))
                size = storage.nbytes() if counted else 0
                weakref.finalize(storage, self._gone, id(storage), size)
                self.now += size
                self.peak = max(self.peak, self.now)

    def _gone(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.now -= size


@dataclass(frozen=True)
class Need:
    """Bytes: a constant part, and the most that each image of a batch adds."""

    fixed: int
    each: int

    def of(self, batch: int) -> int:
        """Bytes for a batch."""
        return self.fixed + batch * self.each

    def most(self, available: int) -> int:
        """The largest batch that fits, or 0."""
        return max(0, available - self.fixed) // self.each


@dataclass(frozen=True)
class Needs:
    """Memory for drawing tokens and for decoding them, which share one GPU."""

    drawing: Need
    decoding: Need

    def fit(self, batch: int, decode_batch: int, multiple: int, free: int) -> tuple[int, int]:
        """Both batches, lowered to fit: a quarter of the memory is for decoding, the rest for drawing.

        Args:
            batch: images drawn at a time, at most.
            decode_batch: images decoded at a time, at most.
            multiple: must be one of the batch that is drawn.
            free: bytes.

        Returns:
            The batches; 0 drawn at a time where not even one fits.
        """
        room = int(ROOM * free)
        decode_batch = max(1, min(decode_batch, self.decoding.most(room // 4)))
        most = min(batch, self.drawing.most(room - self.decoding.of(decode_batch)))
        return max((size for size in range(1, most + 1) if not multiple % size), default=0), decode_batch

    def told(self, batch: int, decode_batch: int) -> str:
        """The memory of such batches, as text."""
        return f"{(self.drawing.of(batch) + self.decoding.of(decode_batch)) / 1e9:.1f} GB"


@torch.no_grad()
def sampling_need(
    config: StackformerConfig,
    settings: SamplingSettings,
    dtype: torch.dtype,
    kept_as: torch.dtype | None = None,
) -> Need:
    """What a `Sampler` on a GPU needs: weights in `dtype`; per image keys, values and the logits of one step."""
    model = _on_meta(Stackformer, config).to(dtype)
    weights = sum(weight.nbytes for weight in model.parameters()) + _folded_bytes(model, dtype, kept_as)
    one, two = (_sampling_peak(model, batch, settings, kept_as) for batch in (1, 2))
    return Need(weights + one - (two - one), two - one)


def _folded_bytes(model: Stackformer, dtype: torch.dtype, kept_as: torch.dtype | None) -> int:
    """Copies that fused decoding makes of the two maps of each block into which it folds a LayerNorm."""
    if dtype not in HALVES or kept_as not in (None, dtype) or model.config.network.block != "gpt":
        return 0
    folded = ("to_qkv.weight", "widen.weight")
    return sum(weight.nbytes for name, weight in model.named_parameters() if name.endswith(folded))


def _sampling_peak(
    model: Stackformer, batch: int, settings: SamplingSettings, kept_as: torch.dtype | None
) -> int:
    """Peak bytes of creating the sampler, of the first step, and of the second, which is like all later ones."""
    live = LiveBytes()
    with live:
        sampler = Sampler(model, batch, settings, BUCKET, kept_as or model.e_c.weight.dtype)
        sampler.start(model.null_condition(batch), range(batch))
        if model.config.num_kept > 1:
            sampler.go_on(1)
    return live.peak


@torch.no_grad()
def decoding_need(config: MQVAEConfig, workspace: float = 1.0) -> Need:
    """What `MQVAE.decode_tokens` needs in fp32: weights; per image the largest set of live activations.

    Args:
        config: of the model.
        workspace: factor on the activations for a GPU's convolution workspaces; see `WORKSPACE`.
    """
    model = _on_meta(MQVAE, config)
    weights = sum(weight.nbytes for weight in (*model.parameters(), *model.buffers()))
    peaks = []
    for batch in (1, 2):
        tokens_BN = torch.zeros(batch, config.num_kept, dtype=torch.int64, device=META)
        with LiveBytes() as live:
            model.decode_tokens(tokens_BN, tokens_BN)
        peaks.append(live.peak)
    each = peaks[1] - peaks[0]
    return Need(weights + peaks[0] - each, int(workspace * each))


def _on_meta(kind: Any, config: Any) -> Any:
    with META:
        return kind(config).eval()

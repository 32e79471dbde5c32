"""Predicts the memory for drawing and decoding, by running the code on meta tensors, which have no data, and counting the
bytes that would be alive at once.

Not included: the allocator's rounding, and libraries' workspaces except for `WORKSPACE`.
"""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from models.mqvae import MQVAE, MQVAEConfig
from models.sampling.editing import choose_new
from models.sampling.sampled import SamplingSettings
from models.sampling.sampler import BUCKET, Sampler
from models.sampling.state import CachedStackformer
from models.stackformer import Stackformer, StackformerConfig

META = torch.device("meta")
HALVES = (torch.bfloat16, torch.float16)
WORKSPACE: Mapping[str, float] = {"fp32": 1.5, "bf16": 1.05}
"""Ratio of decoding's memory with cuDNN's workspaces to its tensors', by precision, on an H200 at 256 px
(docs/results/gpu.md)."""
ROOM = 0.9
"""Share of a GPU's free memory to use, because libraries have workspaces and allocators leave gaps."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of live tensors created inside the block: `now`, and `peak`, the maximum so far."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count its outputs; inputs created outside are not counted."""
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
    """Bytes: a constant part, and the most that each image in a batch adds."""

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
    """Memory for drawing tokens and for decoding them on the same GPU."""

    drawing: Need
    decoding: Need

    def fit(self, batch: int, decode_batch: int, multiple: int, free: int) -> tuple[int, int]:
        """Both batches, lowered to fit: a quarter of the memory is for decoding, the rest for drawing.

        Args:
            batch: most images drawn at a time.
            decode_batch: most images decoded at a time.
            multiple: the lowered batch must divide this.
            free: free bytes.

        Returns:
            Both batches; the first is 0 if not even one image fits.
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
    """Memory for a `Sampler` on a GPU: weights in `dtype`; per image keys, values and the logits of one step."""
    # where sequences end by themselves, none of them does on meta tensors: what the longest would need
    model = _on_meta(Stackformer, replace(config, fewest_kept=None)).to(dtype)
    weights = sum(weight.nbytes for weight in model.parameters()) + _folded_bytes(model, dtype, kept_as)
    one, two = (_sampling_peak(model, batch, settings, kept_as) for batch in (1, 2))
    return Need(weights + one - (two - one), two - one)


@torch.no_grad()
def editing_need(
    config: StackformerConfig,
    settings: SamplingSettings,
    dtype: torch.dtype,
    kept_as: torch.dtype | None = None,
) -> Need:
    """Memory for an `Editor` on a GPU, per sequence: besides the cache, the positions of every code that may come.

    It is on the safe side: attention under a mask is counted with its whole matrix, which no GPU kernel has.
    """
    model = _on_meta(Stackformer, config).to(dtype)
    weights = sum(weight.nbytes for weight in model.parameters())
    one, two = (_editing_peak(model, rows, settings, kept_as) for rows in (1, 2))
    return Need(weights + one - (two - one), two - one)


def _editing_peak(
    model: Stackformer, rows: int, settings: SamplingSettings, kept_as: torch.dtype | None
) -> int:
    """Peak bytes of the first step, and of a last one that looks at all codes."""
    live = LiveBytes()
    with live, META:
        state = CachedStackformer(
            model, rows, settings.guidance_scale, kept_as=kept_as, fused=False, looks_ahead=True
        )
        state.start(model.null_condition(rows))
        state.step = model.config.num_kept - 1
        logits_R1L = state.position_logits(torch.zeros(rows, dtype=torch.int64))[:, None]
        log_code_RK, free_RL = state.code_logits().double().log_softmax(dim=-1), logits_R1L[:, 0] == 0
        number_R = torch.zeros(rows, dtype=torch.float64)
        uniform_R2 = torch.zeros(rows, 2, dtype=torch.float64)
        choose_new(state, settings, log_code_RK, number_R, free_RL, free_RL, uniform_R2, number_R)
    return live.peak


def _folded_bytes(model: Stackformer, dtype: torch.dtype, kept_as: torch.dtype | None) -> int:
    """Bytes of the copies that fused decoding makes of the two maps per block into which it folds a LayerNorm."""
    if dtype not in HALVES or kept_as not in (None, dtype) or model.config.network.block != "gpt":
        return 0
    folded = ("to_qkv.weight", "widen.weight")
    return sum(weight.nbytes for name, weight in model.named_parameters() if name.endswith(folded))


def _sampling_peak(
    model: Stackformer, batch: int, settings: SamplingSettings, kept_as: torch.dtype | None
) -> int:
    """Peak bytes of creating the sampler, of the first step, and of the second step, which later ones equal."""
    live = LiveBytes()
    with live:
        sampler = Sampler(model, batch, settings, BUCKET, kept_as or model.e_c.weight.dtype)
        sampler.start(model.null_condition(batch), range(batch))
        if model.config.num_kept > 1:
            sampler.go_on(1)
    return live.peak


@torch.no_grad()
def decoding_need(config: MQVAEConfig, workspace: float = 1.0) -> Need:
    """Memory for `MQVAE.decode_tokens` in fp32: weights; per image the largest set of live activations.

    Args:
        config: the model's config.
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

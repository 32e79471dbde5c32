"""The Triton kernels of decoding on a CPU, by Triton's own interpreter: against plain operations in float64, and whole samplers.

fp16 where a GPU has bf16: the interpreter's matrix product takes no bf16.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip(
        "a GPU is here, and python -m benchmarks.gpu tries the kernels on it", allow_module_level=True
    )
pytest.importorskip("triton", reason="Triton has wheels for Linux alone")

from triton.runtime import interpreter  # noqa: E402

from models.sampling import Sampler, SamplingSettings, Truncation, draw, fused, kernels  # noqa: E402
from models.sampling.draw_kernels import FusedDraw  # noqa: E402
from models.sampling.kernels import Cuts, FusedLinear, Tiles, attend  # noqa: E402
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig  # noqa: E402

BOUNDS = {torch.float32: 1e-5, torch.float16: 1e-2}


@pytest.fixture(autouse=True)
def whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton 3.6's interpreter takes an array of one number for a loop's end, which numpy refuses from 2.4 on."""
    plain: Callable[..., Any] = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        plain(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)


def distance(a: Tensor, b: Tensor) -> float:
    """‖a - b‖ / ‖b‖."""
    return float((a.double() - b).norm() / b.norm())


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize(("ins", "outs"), [(64, 96), (256, 24)])
@torch.no_grad()
def test_a_fused_map_is_norm_product_bias_and_what_follows(
    dtype: torch.dtype, rows: int, ins: int, outs: int
) -> None:
    torch.manual_seed(rows + ins)
    linear, norm = nn.Linear(ins, outs).to(dtype), nn.LayerNorm(ins).to(dtype)
    nn.init.normal_(norm.weight, 1, 0.3)
    nn.init.normal_(norm.bias, 0, 0.3)
    x_RI, residual_RO = (torch.randn(rows, ins) * 2 + 0.5).to(dtype), torch.randn(rows, outs).to(dtype)
    first, second, third = (
        FusedLinear(linear, norm, gelu=True),
        FusedLinear(linear),
        FusedLinear(linear, norm),
    )
    third.tiles = Tiles(8, 32, 16)
    found = [first(x_RI), second(x_RI, residual_RO), third(x_RI)]
    linear, norm, x_RI = linear.double(), norm.double(), x_RI.double()
    normed_RO = linear(norm(x_RI))
    for ours, expected in zip(
        found, (F.gelu(normed_RO), residual_RO.double() + linear(x_RI), normed_RO), strict=True
    ):
        assert distance(ours, expected) < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize("splits", [1, 4])
def test_fused_attention_keeps_now_and_hears_all_before_it(
    dtype: torch.dtype, splits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "cuts_of", lambda heads, length: Cuts(splits, 32, 1))
    rows, heads, length, size = 2, 2, 130, 16
    torch.manual_seed(0)
    k_RHTE, v_RHTE = (torch.randn(rows, heads, length, size).to(dtype) for _ in "kv")
    for time in (0, 1, 64, 65, 129):
        qkv_RF = torch.randn(rows, 3 * heads * size).to(dtype)
        keys, values = k_RHTE.clone(), v_RHTE.clone()
        found = attend(qkv_RF, keys, values, torch.tensor([time]))
        q, k, v = qkv_RF.view(rows, 3, heads, 1, size).unbind(1)
        k_all, v_all = torch.cat([k_RHTE[:, :, :time], k], 2), torch.cat([v_RHTE[:, :, :time], v], 2)
        expected = F.scaled_dot_product_attention(q.double(), k_all.double(), v_all.double())
        assert distance(found, expected.transpose(1, 2).flatten(1)) < BOUNDS[dtype]
        assert torch.equal(keys[:, :, : time + 1], k_all) and torch.equal(values[:, :, : time + 1], v_all)
        assert torch.equal(keys[:, :, time + 1 :], k_RHTE[:, :, time + 1 :])


@pytest.mark.parametrize(
    "given", [(1.0, 0, 1.0), (0.7, 5, 0.8), (2.0, 3, 1.0), (1.0, 0, 0.01), (1.0, 1000, 0.5)]
)
def test_a_fused_draw_is_the_plain_one(given: tuple[float, int, float]) -> None:
    torch.manual_seed(0)
    rows, entries, kept = 6, 50, 20
    truncation, uniform_B2 = Truncation(*given), torch.rand(rows, 2, dtype=torch.float64)
    logits_BV = torch.randn(rows, entries) * 2
    logits_BV[:, ::3] = logits_BV[:, :1]  # equal ones are taken in their order
    logits_BV[0, 1:] = -math.inf
    ours = FusedDraw(*given, entries, logits_BV.device)(logits_BV, uniform_B2[:, 1])
    assert torch.equal(ours, draw(logits_BV, truncation, uniform_B2[:, 1]))
    previous_B1, step_1 = torch.randint(-1, 10, (rows, 1)), torch.tensor([7])
    logits_BV, entry_V = torch.randn(rows, entries), torch.arange(entries)
    supported_BV = (entry_V > previous_B1) & (entry_V <= entries - kept + step_1)
    ascending = FusedDraw(*given, entries, logits_BV.device, entries - kept)
    ours = ascending(logits_BV, uniform_B2[:, 0], previous_B1, step_1)
    assert torch.equal(
        ours, draw(logits_BV.masked_fill(~supported_BV, -math.inf), truncation, uniform_B2[:, 0])
    )


@pytest.mark.parametrize("support", ["ascending", "unused"])
def test_a_fused_sampler_draws_what_the_plain_one_draws(
    support: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32, where rounding leaves both the same choice; with guidance, so that rows are twice the images."""
    torch.manual_seed(0)
    network = NetworkConfig(32, 2, 2, 1, 0.0, support)
    model = Stackformer(StackformerConfig(network, 12, 9, 5, "class", 1, 3)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    truncation = Truncation(1.0, 0, 0.9)
    settings, condition_B1 = SamplingSettings(1.7, truncation, truncation), torch.tensor([[0], [2]])
    plain = Sampler(model, 2, settings, fused=False)(condition_B1, [5, 6])
    fast = Sampler(model, 2, settings, fused=True)(condition_B1, [5, 6])
    assert torch.equal(plain.codes_BN, fast.codes_BN) and torch.equal(plain.positions_BN, fast.positions_BN)
    assert not fused.fuses(model.code_transformer, None)  # on a CPU oneDNN's packed maps are faster

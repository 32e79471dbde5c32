"""Laws of the options beyond the paper: rotation trick, SimVQ, renormalised attention."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.mqvae.demasker import DirectionConstrainedAttention
from models.mqvae.quantizer import CodebookBatch, Quantizer, QuantizerConfig, rotated

SIMVQ = QuantizerConfig(
    kind="simvq", estimator="straight_through", decay=0.9, commitment=0.25, restart_every=0, restart_below=0.0
)


def literal_rotation(z_D: Tensor, e_D: Tensor) -> Tensor:
    """The matrix λ R that turns z to e, entry by entry (Fifty et al. 2024, section 4)."""
    size = len(z_D)
    z, e = z_D / z_D.norm(), e_D / e_D.norm()
    r = (z + e) / (z + e).norm()
    rows = [
        [float(i == j) - 2 * float(r[i] * r[j]) + 2 * float(e[i] * z[j]) for j in range(size)]
        for i in range(size)
    ]
    return torch.tensor(rows, dtype=torch.float64) * float(e_D.norm() / z_D.norm())


@given(st.integers(2, 5), st.integers(0, 99))
def test_the_rotation_trick_gives_the_code_and_turns_its_gradient_back(dim: int, seed: int) -> None:
    torch.manual_seed(seed)
    z_D, e_D, upstream_D = torch.randn(3, dim, dtype=torch.float64)
    z_D.requires_grad_(True)
    out_D = rotated(z_D, e_D)
    torch.testing.assert_close(out_D, e_D)
    out_D.backward(upstream_D)
    torch.testing.assert_close(z_D.grad, literal_rotation(z_D.detach(), e_D).T @ upstream_D)


def test_our_rotation_trick_is_that_of_vector_quantize_pytorch() -> None:
    oracle = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch")
    torch.manual_seed(0)
    e_BND, weights_BND = torch.randn(2, 2, 5, 3, dtype=torch.float64)
    gradients = []
    for turn in (rotated, oracle.rotate_to):
        z_BND = torch.linspace(-1, 2, 30, dtype=torch.float64).reshape(2, 5, 3).requires_grad_(True)
        (turn(z_BND, e_BND) * weights_BND).sum().backward()
        gradients.append(z_BND.grad)
    torch.testing.assert_close(*gradients)


def test_simvq_learns_one_map_and_its_codes_follow_it() -> None:
    torch.manual_seed(0)
    layer = Quantizer(SIMVQ, 8, 4).double()
    start_KD = layer.start_KD.clone()
    z_BND = torch.randn(2, 5, 4, dtype=torch.float64)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    distances = []
    for _ in range(40):
        out = layer(z_BND)
        distances.append(float((z_BND - layer.lookup(out.codes_BN)).square().mean()))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        layer.update([CodebookBatch(0, z_BND, out.codes_BN)], 2, False, 0, lambda tensor: tensor)
        torch.testing.assert_close(layer.codebook_KD, layer.start_KD @ layer.to_codes.weight.T)
    assert [name for name, _ in layer.named_parameters()] == ["to_codes.weight"]
    assert torch.equal(layer.start_KD, start_KD) and distances[-1] < 0.5 * distances[0]


@given(st.integers(2, 7), st.integers(0, 99))
def test_renormalised_attention_divides_each_row_by_its_sum(length: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = DirectionConstrainedAttention(8, renormalised=True).double()
    z_LD = torch.randn(length, 8, dtype=torch.float64)
    trust_L = torch.rand(length, dtype=torch.float64).clamp_min(1e-3)
    q, k, v = (z_LD @ part.T for part in layer.to_qkv.weight.detach().chunk(3))
    expected = torch.zeros_like(z_LD)
    for i in range(length):
        row = [math.exp(float(q[i] @ k[j]) / math.sqrt(8)) * float(trust_L[j]) for j in range(length)]
        for j in range(length):
            expected[i] += row[j] / sum(row) * v[j]
    torch.testing.assert_close(layer.attend(z_LD[None], trust_L[None])[0], expected)

"""Laws of the de-mask module (paper Eq. 5-8) and of the whole MQ-VAE."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.mqvae import MQVAE, MQVAEConfig
from models.mqvae.demasker import Demasker, DirectionConstrainedAttention
from models.mqvae.discriminator import PatchDiscriminator
from models.mqvae.losses import adaptive_weight, hinge_discriminator, hinge_generator, ramp
from tests.models.tiny_mqvae import TINY

PAPER = dataclasses.replace(
    TINY,
    image_size=256,
    patch_size=1,
    channels=128,
    res_blocks=2,
    code_dim=256,
    num_codes=1024,
    scorer_width=256,
    demask_blocks=8,
)


def model(config: MQVAEConfig = TINY) -> MQVAE:
    """A model with random weights everywhere (zero-started layers too), in float64."""
    torch.manual_seed(5)
    made = MQVAE(config).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


@torch.no_grad()
def literal_eq_5_to_7(layer: DirectionConstrainedAttention, z_LD: Tensor, trust_L: Tensor) -> Tensor:
    length, dim = z_LD.shape
    w_q, w_k, w_v = layer.to_qkv.weight.chunk(3)
    q, k, v = (torch.stack([w @ z for z in z_LD]) for w in (w_q, w_k, w_v))
    out = torch.zeros_like(z_LD)
    for i in range(length):
        logits = [float(q[i] @ k[j]) / math.sqrt(dim) for j in range(length)]
        total = sum(math.exp(logit) for logit in logits)
        for j in range(length):
            out[i] += math.exp(logits[j]) / total * trust_L[j] * v[j]
    return out


@given(st.integers(2, 7), st.integers(0, 99))
def test_scaled_values_equal_masking_after_the_softmax(length: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = DirectionConstrainedAttention(8).double()
    z_BLD = torch.randn(2, length, 8, dtype=torch.float64)
    trust_BL = torch.rand(2, length, dtype=torch.float64)
    expected = torch.stack(
        [literal_eq_5_to_7(layer, z, trust) for z, trust in zip(z_BLD, trust_BL, strict=True)]
    )
    torch.testing.assert_close(layer.attend(z_BLD, trust_BL), expected)


def trusts_seen(kind: str) -> list[Tensor]:
    """B as each attention of a de-mask module receives it."""
    demasker = Demasker(8, 4, kind).double()
    seen: list[Tensor] = []
    for attention in demasker.attentions:
        attention.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    demasker(torch.randn(1, 8, 2, 2, dtype=torch.float64), torch.tensor([[True, False, True, False]]))
    return seen


def test_trust_is_square_rooted_after_every_sub_module_as_in_eq_8() -> None:
    expected = 0.02
    for trust_BL in trusts_seen("dcsa_update"):
        torch.testing.assert_close(
            trust_BL, torch.tensor([[1.0, expected, 1.0, expected]], dtype=torch.float64)
        )
        expected = math.sqrt(expected)
    assert len(trusts_seen("dcsa_update")) == 4


def test_the_ablations_of_the_de_mask_module_differ_in_their_trust() -> None:
    assert all(torch.equal(trust, torch.ones_like(trust)) for trust in trusts_seen("sa"))
    assert all(trust.min() == pytest.approx(0.02) for trust in trusts_seen("dcsa"))
    assert trusts_seen("none") == []


@pytest.mark.parametrize("kind", ["sa", "dcsa", "dcsa_update", "dcsa_renormalised"])
def test_a_new_de_mask_module_is_the_identity(kind: str) -> None:
    z_BDHW = torch.randn(2, 8, 3, 3)
    out = Demasker(8, 3, kind)(z_BDHW, torch.rand(2, 9) > 0.5)
    assert torch.equal(out, z_BDHW)


def test_tokens_decode_to_the_reconstruction_in_any_order() -> None:
    made, image = model(), torch.rand(3, 3, 16, 16, dtype=torch.float64) * 2 - 1
    tokens, output = made.tokenize(image), made(image)
    assert torch.equal(tokens.codes_BN, output.codes_BN) and torch.equal(
        tokens.positions_BN, output.positions_BN
    )
    assert (tokens.positions_BN.diff() > 0).all() and tokens.codes_BN.shape == (3, made.config.num_kept)
    torch.testing.assert_close(
        made.decode_tokens(tokens.codes_BN, tokens.positions_BN), output.reconstruction_BCHW
    )
    shuffle = torch.randperm(made.config.num_kept)
    shuffled = made.decode_tokens(tokens.codes_BN[:, shuffle], tokens.positions_BN[:, shuffle])
    torch.testing.assert_close(shuffled, output.reconstruction_BCHW)


def test_an_image_is_coded_alone_whatever_its_batch() -> None:
    made, image = model(), torch.rand(4, 3, 16, 16, dtype=torch.float64) * 2 - 1
    together, alone = made(image), made(image[2:3])
    torch.testing.assert_close(together.reconstruction_BCHW[2:3], alone.reconstruction_BCHW)
    assert torch.equal(together.positions_BN[2:3], alone.positions_BN)


def test_a_saved_model_is_rebuilt_from_its_folder_and_saves_the_same_bytes(tmp_path: Path) -> None:
    made = model()
    made.save_pretrained(tmp_path / "a")
    again = MQVAE.from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    assert again.config == made.config
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_weights_that_were_published_before_a_field_was_there_are_read(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("refine") == 0
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert MQVAE.from_pretrained(tmp_path).config == model().config
    del config["patch_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="MQVAEConfig lacks patch_size"):
        MQVAE.from_pretrained(tmp_path)


def test_an_unknown_config_key_and_foreign_weights_are_named(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"mask_ratoi": 0.5}))
    with pytest.raises(ValueError, match="mask_ratoi is not a field of MQVAEConfig; did you mean mask_ratio"):
        MQVAE.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"code_dim": 16}))
    with pytest.raises(ValueError, match="does not fit"):
        MQVAE.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="does not exist"):
        MQVAE.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 30}, "image_size 30 is not divisible by the down-sampling 4"),
        ({"mask_ratio": 0.99}, "keeps N = 0 of L = 16"),
        ({"mask_ratio": 1.0}, "expected 0 ≤ mask_ratio < 1"),
        ({"mask": "none"}, "expected mask_ratio 0"),
        ({"num_codes": 70000}, "stored as uint16"),
        ({"channels": 0}, "channels is 0, expected ≥ 1"),
        ({"refine": -1}, "refine is -1, expected ≥ 0"),
        ({"channel_multipliers": ()}, "one whole number"),
    ],
)
def test_impossible_sizes_are_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize(
    ("channel_multipliers", "grid", "millions"),
    [((1, 1, 2, 2), 32, 37.5), ((1, 1, 2, 2, 4), 16, 84.6), ((1, 1, 2, 2, 4, 4), 8, 112.9)],
)
def test_the_paper_sizes_have_the_parameters_we_state(
    channel_multipliers: tuple[int, ...], grid: int, millions: float
) -> None:
    """The paper gives 44.4 M at f8; ours, counted here, has fewer: its own layer list is not published."""
    with torch.device("meta"):
        made = MQVAE(dataclasses.replace(PAPER, channel_multipliers=channel_multipliers))
    assert made.config.grid == grid
    assert sum(p.numel() for p in made.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_the_hinge_losses_are_as_written() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5])
    assert hinge_discriminator(real, fake) == pytest.approx(0.5 * ((0 + 0.5) / 2 + (0 + 1.5) / 2))
    assert hinge_generator(fake) == pytest.approx(1.25)


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms_clamped_and_finite() -> None:
    rec, adv = torch.tensor([0.6, 0.8]), torch.tensor([0.0, 2.0])
    assert adaptive_weight(rec, adv, 100.0) == pytest.approx(1 / (2 + 1e-4))
    assert adaptive_weight(rec, adv, 0.25) == 0.25
    assert adaptive_weight(rec, adv * float("nan"), 100.0) == 0.0


def test_the_ramp_is_zero_before_its_start_and_one_after_its_length() -> None:
    assert [ramp(step, 3, 2) for step in range(6)] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]


def test_the_critic_judges_patches_one_image_at_a_time() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(8, 3).double()
    image = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    assert discriminator(image).shape == (3, 1, 6, 6)
    torch.testing.assert_close(discriminator(image)[1:2], discriminator(image[1:2]))

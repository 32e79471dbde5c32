"""Laws of `init_from`: weights that fit are taken to the bit, and what does not fit is named before any work."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.mqvae import MQVAE
from models.mqvae.quantizer import CodebookBatch
from settings.mqvae import MQVAESettings
from tests.training import test_mqvae_training as images
from tests.training.test_mqvae_training import CONFIG, TRAINING
from training.loop.start import start_weights, started
from training.loop.train import train
from training.mqvae.module import MQVAETrainingModule
from workspace.errors import UserError
from workspace.exact.manifest import write_manifest


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    MQVAE(CONFIG).save_pretrained(folder)
    return folder


def taken(folder: Path, **changed: object) -> dict[str, torch.Tensor]:
    return start_weights(folder, MQVAE(dataclasses.replace(CONFIG, **changed)), "mqvae.init_from", "mqvae")  # type: ignore[arg-type]


def test_weights_that_fit_are_taken_to_the_bit_whatever_has_no_weights(published: Path) -> None:
    weights = MQVAE.from_pretrained(published).state_dict()
    for changed in ({}, {"mask_ratio": 0.25}, {"image_size": 16}, {"mask": "random"}):
        torch.testing.assert_close(taken(published, **changed), dict(weights), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"num_codes": 16}, "num_codes is 8 there and 16 here;"),
        ({"code_dim": 4}, "code_dim is 8 there and 4 here;"),
        ({"channels": 12, "num_codes": 9}, "channels is 8 there and 12 here, num_codes is 8 there and 9 here;"),
        ({"channel_multipliers": (1, 1)}, r"channel_multipliers is \[1\] there and \[1, 1\] here;"),
        ({"demask_blocks": 2}, "demask_blocks is 1 there and 2 here;"),
        ({"mask": "none", "mask_ratio": 0.0}, "mask is adaptive there and none here, mask_ratio is 0.5 there"),
        ({"quantizer": dataclasses.replace(CONFIG.quantizer, kind="gradient")}, "quantizer.kind is ema there and gradient here"),
    ],
)  # fmt: skip
def test_weights_of_another_size_are_refused_by_what_differs(
    published: Path, changed: dict[str, object], told: str
) -> None:
    with pytest.raises(
        UserError, match=rf"^mqvae.init_from is .*published, whose weights do not fit: {told}"
    ):
        taken(published, **changed)


def lacking(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def foreign(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"], "n_embd": 768}))


def another_list(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]")


def another_kind(folder: Path) -> None:
    write_manifest(folder, "stackformer", {}, made_from={})


def changed_later(folder: Path) -> None:
    write_manifest(folder, "mqvae", {}, made_from={})
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def no_number(folder: Path) -> None:
    model = MQVAE.from_pretrained(folder)
    with torch.no_grad():
        model.mask_code_D[0] = torch.nan
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lacking, "model.safetensors does not exist"),
        (cut, "holds a damaged model"),
        (foreign, "architectures is not a field of MQVAEConfig"),
        (another_list, "config.json"),
        (another_kind, "is an artifact of kind stackformer, expected mqvae"),
        (changed_later, "model.safetensors"),
        (no_number, "whose weights mask_code_D are not finite"),
    ],
)
def test_a_folder_that_is_damaged_or_of_something_else_is_refused_in_a_line(
    published: Path, damage: Callable[[Path], None], told: str
) -> None:
    damage(published)
    with pytest.raises(UserError, match=f"^mqvae.init_from.*{told}") as found:
        taken(published)
    assert "\n" not in str(found.value)


def test_a_folder_that_is_not_there_is_told_with_what_removes_it(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="^mqvae.init_from is .*nowhere, which is not a folder; .* a copy of it elsewhere"
    ):
        taken(tmp_path / "nowhere")


def started_from(folder: Path, **changed: object) -> tuple[MQVAETrainingModule, MQVAESettings]:
    """An MQ-VAE in training that starts from published weights."""
    settings = TRAINING.replaced(precision="fp32", init_from=folder, **changed)
    model = MQVAE(settings.model)
    start = started(model, settings)

    def nothing(*_: object) -> None:
        """No pictures."""

    held = images.pictures(16)
    return MQVAETrainingModule(model, settings, None, held, torch.device("cpu"), nothing, start), settings


def test_before_a_further_step_tokens_are_those_of_the_weights_and_every_code_is_alive(
    published: Path,
) -> None:
    image = images.pictures(8)
    subject, settings = started_from(published, quantize_start=0)
    there, here = MQVAE.from_pretrained(published).tokenize(image), subject.model.tokenize(image)
    assert torch.equal(there.codes_BN, here.codes_BN) and torch.equal(there.positions_BN, here.positions_BN)
    quantizer = subject.model.quantizer
    torch.testing.assert_close(quantizer.sum_KD / quantizer.count_K[:, None], quantizer.codebook_KD)
    total = settings.global_batch * CONFIG.num_kept
    torch.testing.assert_close(quantizer.count_K.sum(), torch.tensor(float(total)))
    batch = CodebookBatch(0, torch.randn(8, CONFIG.num_kept, 8), torch.zeros(8, CONFIG.num_kept).long())
    assert quantizer.update([batch], 8, True, 0, lambda tensor: tensor).restarted == 0


@pytest.mark.parametrize("quantize_start", [0, 1, 4])
def test_a_loaded_codebook_is_kept_whenever_quantisation_starts(
    published: Path, tmp_path: Path, quantize_start: int
) -> None:
    subject, settings = started_from(published, quantize_start=quantize_start, steps=5, learning_rate=1e-9)
    before = subject.model.quantizer.codebook_KD.clone()
    quantizer = dataclasses.replace(CONFIG.quantizer, decay=0.999, restart_every=0)
    object.__setattr__(subject.model.quantizer, "config", quantizer)
    train(subject, images.batches(settings), settings, images.Alone(), images.folder(tmp_path))
    moved = (subject.model.quantizer.codebook_KD - before).norm() / before.norm()
    assert 0 < moved < 0.5  # another codebook would be about as far as it is long


def test_what_fits_of_another_model_is_taken_and_the_rest_named(published: Path) -> None:
    model = dataclasses.replace(CONFIG, num_codes=16, demask_blocks=2)
    settings = TRAINING.replaced(model=model, init_from=published, init_partial=True)
    fresh = MQVAE(model)
    start = started(fresh, settings)
    told = "\n".join(start.told)
    assert "mqvae.init_from: quantizer.codebook_KD is new: 16 × 8 here, 8 × 8 there" in told
    assert "is new: 8 here, not there" in told and "quantizer.codebook_KD" not in start.taken
    there = MQVAE.from_pretrained(published).state_dict()
    taken = {name: tensor for name, tensor in fresh.state_dict().items() if name in start.taken}
    assert len(taken) > 20
    torch.testing.assert_close(taken, {name: there[name] for name in taken}, rtol=0, atol=0)


def test_frozen_parts_keep_their_bits_and_the_rest_learns(published: Path, tmp_path: Path) -> None:
    subject, settings = started_from(
        published, quantize_start=0, freeze=["encoder", "quantizer", "*.scorer.*"], steps=6
    )
    before = {name: tensor.clone() for name, tensor in subject.ema.model.state_dict().items()}
    train(subject, images.batches(settings), settings, images.Alone(), images.folder(tmp_path))
    for model in (subject.model, subject.ema.model):
        same = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])}
        frozen = {name for name in before if name.startswith(("encoder.", "quantizer.", "masker.scorer."))}
        assert frozen <= same and {"masker.to_code.weight", "decoder.last_weight"} & before.keys() - same

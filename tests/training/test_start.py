"""Laws of `init_from`: weights that fit are taken to the bit, and what does not fit is named before any work."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.mqvae import MQVAE
from tests.training.test_mqvae_training import CONFIG
from training.loop.start import start_weights
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

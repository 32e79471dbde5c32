"""Laws of frozen parts: with any part frozen and any losses a step moves what learns and nothing else, or the run is refused."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from models.mqvae import MQVAE
from models.stackformer import Stackformer
from settings.mqvae import ExplorationConfig, MQVAESettings
from tests.training import test_mqvae_training as images
from tests.training import test_stackformer_training as tokens
from training.loop.start import Start, freeze
from training.loop.watch import finite
from training.mqvae.module import CODEBOOK, MQVAETrainingModule
from training.mqvae.start import require_learning
from training.stackformer.batches import held_out
from training.stackformer.module import StackformerTrainingModule
from workspace.errors import UserError

PARTS = {
    "encoder": ("encoder",),
    "scorer": ("masker.scorer",),
    "mask code": ("mask_code_D",),
    "demasker": ("demasker",),
    "decoder": ("decoder",),
    "codebook": ("quantizer",),
}
KINDS = ("ema", "gradient", "simvq")
LOSSES = {
    "pixels": {"adversarial": 0.0},
    "adversary": {"adversarial": 0.5, "discriminator_start": 0},
    "adversary later": {"adversarial": 0.5, "discriminator_start": 9},
}


def module_of(
    learning: tuple[str, ...], kind: str, loss: str, precision: str, optimizer: str = "adamw", start: int = 1
) -> MQVAETrainingModule:
    """A tiny MQ-VAE of which only these parts learn."""
    config = dataclasses.replace(
        images.CONFIG, quantizer=dataclasses.replace(images.CONFIG.quantizer, kind=kind)
    )
    settings = images.TRAINING.replaced(
        model=config,
        loss=dataclasses.replace(images.LOSS, **LOSSES[loss]),
        precision=precision,
        optimizer=optimizer,
        quantize_start=start,
        exploration=ExplorationConfig(2.0, 0, 1, 2),  # scores pass no gradient from the third step on
        max_bad_steps=2,
    )
    torch.manual_seed(0)
    model = MQVAE(config)
    frozen = freeze(model, [name for name in names(model) if not name.startswith(learning)], "mqvae.freeze")
    held = images.pictures(4)
    return MQVAETrainingModule(
        model,
        settings,
        None,
        held,
        torch.device("cpu"),
        lambda *_: None,
        Start(frozenset([CODEBOOK]), frozen),
    )


def names(model: nn.Module) -> list[str]:
    return list(model.state_dict())


def steps(subject: MQVAETrainingModule, count: int = 4) -> set[str]:
    """The names of the weights and buffers that some steps moved."""
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    for step in range(count):
        for optimizer in subject.optimizers.values():
            optimizer.zero_grad()
        terms = subject.micro_step(images.batches(subject.settings)(step)[0], step, 1.0)
        numbers = subject.finish_step(step, lambda tensor: tensor, finite)
        assert torch.isfinite(terms["loss"]) and float(numbers["gradient_norm"]) >= 0
    return {
        name for name, tensor in subject.model.state_dict().items() if not torch.equal(tensor, before[name])
    }


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_part_of_an_mqvae_learns_alone_and_each_two_do(kind: str, loss: str) -> None:
    """And nothing that is frozen moves."""
    pairs = itertools.combinations_with_replacement(PARTS, 2)
    for one, other in pairs if loss == "adversary" else ((name, name) for name in PARTS):
        learning = (*PARTS[one], *PARTS[other])
        if kind == "ema" and one == other == "codebook":  # no weight learns by gradient
            continue
        moved = steps(module_of(learning, kind, loss, "fp32"), 3)
        assert moved and all(name.startswith(learning) for name in moved), (one, other)
        for part in (one, other):
            assert any(name.startswith(PARTS[part]) for name in moved), (one, other, part)


@pytest.mark.parametrize(("precision", "optimizer"), [("fp16", "adamw"), ("fp16", "muon"), ("bf16", "muon")])
@pytest.mark.parametrize("part", PARTS)
def test_the_same_where_losses_are_scaled_and_matrices_have_their_own_optimizer(
    part: str, precision: str, optimizer: str
) -> None:
    moved = steps(module_of(PARTS[part], "gradient", "adversary later", precision, optimizer))
    assert all(name.startswith(PARTS[part]) for name in moved)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "part", ["e_c", "e_p", "e_t", "code_transformer", "code_head", "position_transformer", "position_head"]
)
def test_each_part_of_a_stackformer_learns_alone(part: str, precision: str) -> None:
    """Embeddings alone leave the group of linear weights empty."""
    plan = tokens.TRAINING.replaced(precision=precision, max_bad_steps=2)
    torch.manual_seed(0)
    model = Stackformer(tokens.CLASSES)
    freeze(model, [name for name in names(model) if not name.startswith(part)], "stackformer.freeze")
    subject = StackformerTrainingModule(
        model, plan, held_out(tokens.tokens(), tokens.CLASSES, 21), torch.device("cpu")
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(2):
        for optimizer in subject.optimizers.values():
            optimizer.zero_grad()
        subject.micro_step(tokens.batches(plan)(step)[0], step, 1.0)
        numbers = subject.finish_step(step, lambda tensor: tensor, finite)
        assert ("loss_scale" in numbers) == (precision == "fp16")
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved and all(name.startswith(part) for name in moved)


@pytest.mark.parametrize(
    ("learning", "changes", "told"),
    [
        ("masker.scorer", {"exploration": ExplorationConfig(1.0, 0, 0, 0)}, "exploration.freeze_start 0"),
        ("mask_code_D", {"model": dataclasses.replace(images.CONFIG, mask_ratio=0.0)}, "all cells are kept"),
    ],
)  # fmt: skip
def test_a_part_that_never_gets_a_gradient_is_refused_in_a_line(
    learning: str, changes: dict[str, object], told: str
) -> None:
    settings: MQVAESettings = images.TRAINING.replaced(**changes)
    model = MQVAE(settings.model)
    frozen = freeze(model, [name for name in names(model) if not name.startswith(learning)], "mqvae.freeze")
    with pytest.raises(UserError, match=rf"^mqvae.freeze leaves {learning}.* {told}.*freeze fewer parts"):
        require_learning(model, settings)
    assert CODEBOOK in frozen
    require_learning(MQVAE(settings.model), settings)

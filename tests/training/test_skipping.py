"""Laws of skipped steps, of fp16 with its loss scale, of activations computed again, and of groups that end for more workers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.sampling.memory import LiveBytes
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from models.stackformer.transformer import BlockKind
from tests.training import test_mqvae_training as images
from tests.training import test_stackformer_training as tokens
from tests.training.test_watch import spoiling, state
from training.loop.checkpoints import list_checkpoints
from training.loop.train import train
from training.stackformer.batches import TokenBatch
from training.stackformer.module import StackformerTrainingModule
from workspace.errors import RegroupError, UserError
from workspace.runs import REGROUP
from workspace.settings import Compute


def moved(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of tensors that differ, averages of the weights apart."""
    return [name for name in before if "ema/" not in name and not torch.equal(before[name], after[name])]


@pytest.mark.parametrize(("which", "value"), [("model", torch.inf), ("discriminator", torch.nan)])
def test_a_bad_step_of_an_mqvae_is_skipped_whole_and_training_continues(
    tmp_path: Path, which: str, value: float
) -> None:
    subject, plan = images.training_module(), images.TRAINING.replaced(max_bad_steps=1)
    spoiling(subject, 13, which, value)
    states: list[dict[str, Any]] = []
    whole = subject.finish_step

    def finish_step(*given: Any) -> Any:
        found = whole(*given)
        states.append(state(subject))
        return found

    subject.finish_step = finish_step  # type: ignore[method-assign, assignment]
    train(subject, images.batches(plan), plan, images.Alone(), images.folder(tmp_path))
    assert moved(states[12], states[13]) == []
    assert any("codebook" in name for name in moved(states[13], states[14]))
    assert all(torch.isfinite(tensor).all() for tensor in states[-1].values())
    assert (14 in images.losses(tmp_path, "step")) == (which == "discriminator")  # whose norm is no curve


def test_more_bad_steps_in_a_row_than_allowed_stop_the_run_and_name_the_last(tmp_path: Path) -> None:
    plan = tokens.TRAINING.replaced(max_bad_steps=2, checkpoint_every=2, validate_every=2, log_every=1)
    subject = tokens.training_module(plan)
    for bad in (1, 3, 4, 5):  # one alone, then three
        spoiling(subject, bad, "model", torch.inf)
    with pytest.raises(
        UserError,
        match=r"^step 6: the gradient's norm is inf, after 2 skipped steps in a row; .*step-000000004\)$",
    ):
        train(subject, tokens.batches(), plan, tokens.OneOf(), tokens.folder(tmp_path))


def test_the_first_codes_are_taken_in_a_step_whose_gradients_are_bad(tmp_path: Path) -> None:
    plan = images.TRAINING.replaced(max_bad_steps=1, steps=5)
    subject = images.training_module(plan)
    spoiling(subject, images.TRAINING.quantize_start - 1, "model", torch.nan)
    train(subject, images.batches(plan), plan, images.Alone(), images.folder(tmp_path))
    assert subject.model.quantizer.count_K.sum() > 0


def test_fp16_with_its_loss_scale_gives_the_gradients_of_fp32() -> None:
    """Of both models and the discriminator, as far as eleven bits allow."""
    late, share = 17, 0.5
    for precision in ("fp32", "fp16"):
        plan = images.TRAINING.replaced(precision=precision)
        painter = images.training_module(plan)
        terms = painter.micro_step(images.batches(plan)(late)[0], late, share)
        writer = tokens.training_module(tokens.TRAINING.replaced(precision=precision))
        loss = writer.micro_step(tokens.batches()(0)[0], 0, share)["loss"]
        modules = (painter.model, painter.discriminator, writer.model)
        scale = painter.scaler.get_scale() if precision == "fp16" else 1.0
        gradients = [
            torch.cat([w.grad.flatten() for w in module.parameters() if w.grad is not None]) / scale
            for module in modules
        ]
        figures = [
            float(loss),
            *(float(terms[name]) for name in ("loss", "discriminator", "adaptive_weight")),
        ]
        if precision == "fp32":
            expected, wanted = gradients, figures
    assert scale == 2.0**16
    assert figures == pytest.approx(wanted, rel=2e-2)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert torch.cosine_similarity(ours, theirs, dim=0) > 0.99
        assert float(ours.norm() / theirs.norm()) == pytest.approx(1, rel=3e-2)


def test_a_resumed_fp16_run_has_the_bits_and_the_scale_of_an_uninterrupted_one(tmp_path: Path) -> None:
    plan = tokens.TRAINING.replaced(
        steps=6, checkpoint_every=2, validate_every=3, precision="fp16", max_bad_steps=3, log_every=1
    )

    def killed(step: int) -> list[TokenBatch]:
        if step == 4:
            raise KeyboardInterrupt
        return tokens.batches(plan)(step)

    subjects = [tokens.training_module(plan) for _ in range(3)]
    for subject in subjects:
        spoiling(subject, 1, "model", torch.inf)
    train(subjects[0], tokens.batches(plan), plan, tokens.OneOf(), tokens.folder(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(subjects[1], killed, plan, tokens.OneOf(), tokens.folder(tmp_path / "killed"))
    train(subjects[2], tokens.batches(plan), plan, tokens.OneOf(), tokens.folder(tmp_path / "killed"))
    assert images.newest(tmp_path / "killed") == images.newest(tmp_path / "whole")
    whole, again = (tokens.curves(tmp_path / name) for name in ("whole", "killed"))
    assert again["loss_scale"] == whole["loss_scale"] == [2.0**16, *[2.0**15] * 4]
    assert again["loss"] == whole["loss"]


def test_fp16_needs_steps_that_may_be_skipped() -> None:
    here = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
    with pytest.raises(
        UserError, match=r"stackformer.max_bad_steps is 0 and precision is fp16.*expected ≥ 1"
    ):
        tokens.TRAINING.replaced(precision="fp16").check("stackformer", here)


@pytest.mark.parametrize("kind", ["gpt", "modern"])
def test_activations_computed_again_change_no_bit(kind: BlockKind) -> None:
    """With dropout, whose masks must be the same the second time."""
    network = replace(tokens.NETWORK, dropout=0.3, block=kind, width=32)
    found = []
    for wanted in (False, True):
        torch.manual_seed(0)
        plan = tokens.TRAINING.replaced(activation_checkpointing=wanted, model=network)
        model = Stackformer(replace(tokens.CLASSES, network=network))
        unseen = tokens.held_out(tokens.tokens(), tokens.CLASSES, 4)
        subject = StackformerTrainingModule(model, plan, unseen, torch.device("cpu"))
        subject.micro_step(tokens.batches()(0)[0], 0, 1.0)
        found.append([weight.grad for weight in model.parameters()])
    for plain, again in zip(*found, strict=True):
        assert (plain is None) == (again is None)
        assert plain is None or again is None or torch.equal(plain, again)


def test_activations_computed_again_take_at_most_six_tenths_of_the_memory() -> None:
    """At the paper's size, 18 + 6 blocks and 768 codes; weights, gradients, moments and averages are in both."""
    config = StackformerConfig(
        NetworkConfig(1024, 16, 18, 6, 0.0, "ascending"), 1024, 1024, 768, "class", 1, 1000
    )
    with torch.device("meta"):
        model: nn.Module = Stackformer(config)
    whole = [torch.zeros(8, length, dtype=torch.int64, device="meta") for length in (768, 768, 1)]
    peaks = []
    for wanted in (False, True):
        model.checkpoint_activations(wanted)  # type: ignore[operator]
        model.zero_grad(set_to_none=True)
        with LiveBytes() as live:
            model.loss(model(*whole), *whole[:2]).total.backward()  # type: ignore[operator]
        weights = sum(weight.nbytes for weight in model.parameters())
        peaks.append(live.peak + 4 * weights)
    assert peaks[1] <= 0.6 * peaks[0]


def test_a_group_ends_after_a_checkpoint_where_there_is_room_for_more_and_loses_nothing(
    tmp_path: Path,
) -> None:
    plan = tokens.TRAINING.replaced(steps=6, checkpoint_every=2, validate_every=3)
    train(
        tokens.training_module(plan),
        tokens.batches(plan),
        plan,
        tokens.OneOf(),
        tokens.folder(tmp_path / "whole"),
    )
    place = tokens.folder(tmp_path / "grown")
    place.work.mkdir(parents=True)
    (place.work / REGROUP).touch()
    with pytest.raises(RegroupError, match="room for more workers"):
        train(tokens.training_module(plan), tokens.batches(plan), plan, tokens.OneOf(), place)
    assert [path.name for path in list_checkpoints(place.work)] == ["step-000000002"]
    (place.work / REGROUP).unlink()
    train(tokens.training_module(plan), tokens.batches(plan), plan, tokens.OneOf(), place)
    assert images.newest(tmp_path / "grown") == images.newest(tmp_path / "whole")

"""Laws of `keep: best` and `patience`: what is published, when a run stops, and that a resumed run knows what it knew."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from settings.schedule import schedule_change
from settings.stackformer import StackformerSettings
from tests.training import test_stackformer_training as tokens
from tests.training.test_stackformer_training import TRAINING, OneOf, batches, folder
from training.curves import Curves
from training.loop.checkpoints import list_checkpoints
from training.loop.train import train
from training.stackformer.batches import TokenBatch
from training.stackformer.module import StackformerTrainingModule

NATS = (5.0, 4.0, 4.5, 4.0, 4.1, 3.0)
PLAN = TRAINING.replaced(steps=12, validate_every=2, checkpoint_every=3, keep="best", patience=3)


class Scripted(StackformerTrainingModule):
    """Its validations give numbers of ours; the averaged weights of each are kept for the comparison."""

    at: dict[int, dict[str, Tensor]]

    def validate(self, step: int) -> dict[str, float]:
        """The next of `NATS`."""
        self.at[step] = {name: tensor.clone() for name, tensor in self.ema.model.state_dict().items()}
        return {"nats_per_image": NATS[step // 2 - 1]}


def scripted(plan: StackformerSettings) -> Scripted:
    made = tokens.training_module(plan)
    made.__class__ = Scripted
    assert isinstance(made, Scripted)
    made.at = {}
    return made


def same(one: nn.Module, weights: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, weights[name]) for name, tensor in one.state_dict().items())


def rows(path: Path) -> list[tuple[int, dict[str, float]]]:
    return Curves(path / "metrics" / "validation.tsv", 99).past()


def test_the_best_validations_weights_are_published_and_the_run_stops_when_none_is_better(
    tmp_path: Path,
) -> None:
    subject = scripted(PLAN)
    published = train(subject, batches(PLAN), PLAN, OneOf(), folder(tmp_path))
    assert [step for step, _ in rows(tmp_path)] == [2, 4, 6, 8, 10]  # of equal ones the first is the best
    assert PLAN.published_row(rows(tmp_path)) == (4, {"nats_per_image": 4.0})
    assert same(published, subject.at[4]) and not same(published, subject.at[10])
    again = scripted(PLAN)
    assert same(train(again, batches(PLAN), PLAN, OneOf(), folder(tmp_path)), subject.at[4])
    assert not again.at, "a run that has stopped took another step"


@pytest.mark.parametrize(
    ("changes", "step"),
    [({"patience": None}, 12), ({"patience": 2}, 4), ({"keep": "last"}, 10), ({"keep": "last", "patience": None}, 12)],
)  # fmt: skip
def test_each_setting_does_its_own_part(changes: dict[str, object], step: int, tmp_path: Path) -> None:
    plan = PLAN.replaced(**changes)
    subject = scripted(plan)
    published = train(subject, batches(plan), plan, OneOf(), folder(tmp_path))
    assert plan.published_row(rows(tmp_path))[0] == step and same(published, subject.at[step])


@pytest.mark.parametrize("stop", [3, 5, 7, 9])
def test_a_resumed_run_stops_at_the_same_step_with_the_same_bits(stop: int, tmp_path: Path) -> None:
    whole = scripted(PLAN)
    expected = train(whole, batches(PLAN), PLAN, OneOf(), folder(tmp_path / "whole"))

    def killed(step: int) -> Sequence[TokenBatch]:
        if step == stop:
            raise KeyboardInterrupt
        return batches(PLAN)(step)

    with pytest.raises(KeyboardInterrupt):
        train(scripted(PLAN), killed, PLAN, OneOf(), folder(tmp_path / "killed"))
    found = train(scripted(PLAN), batches(PLAN), PLAN, OneOf(), folder(tmp_path / "killed"))
    assert same(found, dict(expected.state_dict()))
    newest = [list_checkpoints(tmp_path / name / "work")[-1] for name in ("whole", "killed")]
    assert len({(path / "state.safetensors").read_bytes() for path in newest}) == 1


def test_an_mqvae_is_best_where_its_psnr_is_highest() -> None:
    from tests.training.test_mqvae_training import TRAINING as PLAN

    found = [(1, {"psnr": 10.0}), (2, {"psnr": 12.0}), (3, {"psnr": 11.0})]
    assert PLAN.replaced(keep="best").published_row(found)[0] == 2


def test_more_steps_are_said_to_raise_the_rate_again() -> None:
    before = {"steps": 100, "learning_rate": 0.01, "warmup_steps": 0, "min_lr_ratio": 0.0}
    now = before | {"steps": 200}
    assert schedule_change(100, before, now).startswith(
        "steps 100 → 200: the learning rate is a cosine over all steps, so at step 100 it goes from 0 to 0.005 and falls to 0 by"
    )
    assert schedule_change(100, before, before) == schedule_change(1, {"batch": 1}, {"batch": 2}) == ""
    assert "no step follows" in schedule_change(100, before, before | {"steps": 50})

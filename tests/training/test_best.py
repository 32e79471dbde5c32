"""Laws of `keep: best` and `patience`: what is published, when a run stops, and that a resumed run knows what it knew."""

import dataclasses
import itertools
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.stackformer import Stackformer
from settings.schedule import codebook_missed, schedule_change
from settings.stackformer import StackformerSettings
from settings.training import TrainingSettings
from tests.training import test_mqvae_training as images
from tests.training import test_stackformer_training as tokens
from tests.training.test_stackformer_training import CLASSES, TRAINING, OneOf, batches, folder
from training.curves import Curves
from training.loop.checkpoints import TENSORS, list_checkpoints, load_checkpoint, save_checkpoint
from training.loop.published import read_published
from training.loop.start import freeze
from training.loop.train import train
from training.stackformer.batches import TokenBatch, held_out
from training.stackformer.module import StackformerTrainingModule
from workspace.errors import UserError
from workspace.exact.manifest import read_sealed, write_sealed
from workspace.runs import STATE

NATS = (5.0, 4.0, 4.5, 4.0, 4.1, 3.0)
PLAN = TRAINING.replaced(steps=12, validate_every=2, checkpoint_every=3, keep="best", patience=3)


class Scripted(StackformerTrainingModule):
    """Its validations give numbers of ours; the averaged weights of each are kept for the comparison."""

    at: dict[int, dict[str, Tensor]]

    def validate(self, step: int) -> dict[str, float]:
        """The next of `NATS`."""
        self.at[step] = {name: tensor.clone() for name, tensor in self.ema.model.state_dict().items()}
        return {"nats_per_image": NATS[step // 2 - 1] if step % 2 == 0 else 4.2}


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
    assert read_published(tmp_path / "work") == (4, {"nats_per_image": 4.0})
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
    assert read_published(tmp_path / "work")[0] == step and same(published, subject.at[step])


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
    assert images.TRAINING.is_better({"psnr": 12.0}, 10.0) and not images.TRAINING.is_better(
        {"psnr": 9.0}, 10.0
    )


@pytest.mark.parametrize("plan", [PLAN, images.TRAINING], ids=["lowest", "highest"])
def test_any_number_is_better_than_none_and_none_is_never_better(plan: TrainingSettings) -> None:
    assert plan.is_better({plan.BEST_BY: 7.0}, math.nan)
    for number in (math.nan, math.inf, -math.inf):
        assert not any(plan.is_better({plan.BEST_BY: number}, than) for than in (7.0, math.nan))


def until(stop: int, plan: StackformerSettings) -> Callable[[int], Sequence[TokenBatch]]:
    """Batches of a run that is killed before a step."""

    def of(step: int) -> Sequence[TokenBatch]:
        if step == stop:
            raise KeyboardInterrupt
        return batches(plan)(step)

    return of


WAYS = {
    "the last": {"keep": "last", "patience": None},
    "until it gets no better": {"keep": "last", "patience": 9},
    "the best": {"keep": "best", "patience": None},
    "the best until it gets no better": {"keep": "best", "patience": 9},
}


@pytest.mark.parametrize(
    ("kept", "before", "now"),
    [
        *((5, *pair) for pair in itertools.permutations(WAYS, 2)),  # no validation was of these weights
        *((8, "the last", name) for name in WAYS),
    ],
)
def test_an_adopted_run_publishes_weights_that_it_had_with_their_own_validation(
    kept: int, before: str, now: str, tmp_path: Path
) -> None:
    """Its best is the best of those it looked at, the loaded weights first if it did not look before."""
    old, new = (PLAN.replaced(**WAYS[name], checkpoint_every=kept) for name in (before, now))
    first, second = scripted(old), scripted(new)
    with pytest.raises(KeyboardInterrupt):
        train(first, until(9, old), old, OneOf(), folder(tmp_path))
    published = train(second, batches(new), new, OneOf(), folder(tmp_path))
    steps, numbers = read_published(tmp_path / "work")
    assert same(published, (first.at | second.at)[steps])
    assert dict(rows(tmp_path))[steps] == numbers
    assert (steps == 12) == (new.keep == "last" or NATS[steps // 2 - 1] == 3.0)


def test_the_same_of_a_checkpoint_in_parts(tmp_path: Path) -> None:
    old, new = (PLAN.replaced(**WAYS[name], checkpoint_every=5) for name in ("the last", "the best"))
    with pytest.raises(KeyboardInterrupt):
        train(scripted(old), until(9, old), old, OneOf(), folder(tmp_path))
    path = list_checkpoints(tmp_path / "work")[-1] / STATE
    state = read_sealed(path)
    write_sealed(path, state | {"sha256": {TENSORS: state["sha256"]}})
    second = scripted(new)
    published = train(second, batches(new), new, OneOf(), folder(tmp_path))
    assert read_published(tmp_path / "work")[0] == 12 and same(published, second.at[12])
    assert sorted(second.at) == [5, 6, 8, 10, 12]


def test_a_run_on_another_machine_publishes_the_best_of_the_first_one(tmp_path: Path) -> None:
    """Its checkpoints are there, the curves are not."""
    plan = PLAN.replaced(patience=None, keep="best", steps=10)
    first, second = scripted(plan), scripted(plan)
    with pytest.raises(KeyboardInterrupt):
        train(first, until(9, plan), plan, OneOf(), folder(tmp_path))
    shutil.rmtree(tmp_path / "metrics")
    published = train(second, batches(plan), plan, OneOf(), folder(tmp_path))
    assert same(published, first.at[4]) and read_published(tmp_path / "work") == (4, {"nats_per_image": 4.0})
    assert [step for step, _ in rows(tmp_path)] == [4, 10]
    last = plan.replaced(keep="last")
    shutil.rmtree(tmp_path / "metrics")
    third = scripted(last)
    assert same(train(third, batches(last), last, OneOf(), folder(tmp_path)), third.at[10])
    assert read_published(tmp_path / "work")[0] == 10


@pytest.mark.parametrize(
    ("adopted", "told"),
    [
        ({"optimizer": "muon"}, "has .* learning weights of the optimizer model, expected"),
        ({"freeze": ["e_p"]}, "has .* learning weights of the optimizer model, expected"),
        ({"model": dataclasses.replace(TRAINING.model, width=8)}, r"has model/code_head.weight: \[8, 16\], expected \[8, 8\]"),
    ],
)  # fmt: skip
def test_an_adopted_run_with_other_weights_is_refused_in_a_line(
    adopted: dict[str, object], told: str, tmp_path: Path
) -> None:
    subject = tokens.training_module(PLAN)
    path = save_checkpoint(tmp_path / "RUN" / "work", 3, subject.modules, subject.optimizers)
    plan = PLAN.replaced(**adopted)
    torch.manual_seed(0)
    model = Stackformer(dataclasses.replace(CLASSES, network=plan.model))
    freeze(model, plan.freeze, "stackformer.freeze")
    other = StackformerTrainingModule(
        model, plan, held_out(tokens.tokens(), CLASSES, 21), torch.device("cpu")
    )
    with pytest.raises(
        UserError, match=rf"^the checkpoint step-000000003 {told}.*workspace.runs drop RUN` and run again"
    ):
        load_checkpoint(path, other.modules, other.optimizers)


def test_another_part_that_learns_is_refused_though_it_has_as_many_weights(tmp_path: Path) -> None:
    """Moments are numbered: those of one part would be taken for those of the other."""

    def learning(part: str) -> StackformerTrainingModule:
        torch.manual_seed(0)
        model = Stackformer(CLASSES)
        freeze(model, [name for name in model.state_dict() if not name.startswith(part)], "freeze")
        return StackformerTrainingModule(
            model, PLAN, held_out(tokens.tokens(), CLASSES, 21), torch.device("cpu")
        )

    one, other = learning("e_c"), learning("e_p")
    path = save_checkpoint(tmp_path / "RUN" / "work", 3, one.modules, one.optimizers)
    assert load_checkpoint(path, one.modules, one.optimizers) == 3
    with pytest.raises(
        UserError, match=r"has the learning weight model/e_c\.weight of the .*, expected model/e_p\.weight"
    ):
        load_checkpoint(path, other.modules, other.optimizers)
    state = read_sealed(path / STATE)
    del state["learning"]  # as older ones are
    write_sealed(path / STATE, state)
    assert load_checkpoint(path, one.modules, one.optimizers) == 3


@pytest.mark.parametrize("nan", [{12}, {2, 4, 6, 8, 10, 12}], ids=["the last", "all"])
@pytest.mark.parametrize("keep", ["last", "best"])
def test_weights_whose_validation_is_not_finite_are_not_published(
    keep: str, nan: set[int], tmp_path: Path
) -> None:
    """In a line; once it is finite, as with another precision, they are, without another step."""

    class Overflowing(Scripted):
        def validate(self, step: int) -> dict[str, float]:
            return super().validate(step) | ({"nats_per_image": math.nan} if step in nan else {})

    plan = PLAN.replaced(keep=keep, patience=None)
    subject, place = scripted(plan), folder(tmp_path / "RUN")
    subject.__class__ = Overflowing
    if keep == "best" and nan == {12}:
        assert same(train(subject, batches(plan), plan, OneOf(), place), subject.at[4])
        return
    with pytest.raises(UserError, match=r"has nats_per_image nan, so these .* not published;.* adopt RUN`$"):
        train(subject, batches(plan), plan, OneOf(), place)
    again = scripted(plan)
    assert same(train(again, until(12, plan), plan, OneOf(), place), subject.at[12])
    assert list(again.at) == [12] and read_published(place.work)[0] == 12


def test_a_run_without_a_finite_validation_stops_when_it_has_no_more_patience(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And one that begins with such ones goes on to its best, as a resumed one does."""

    class Overflowing(Scripted):
        nan = 99

        def validate(self, step: int) -> dict[str, float]:
            return super().validate(step) | ({"nats_per_image": math.nan} if step <= self.nan else {})

    subject = scripted(PLAN)
    subject.__class__ = Overflowing
    with pytest.raises(UserError, match="the validation after 6 steps has nats_per_image nan"):
        train(subject, batches(PLAN), PLAN, OneOf(), folder(tmp_path / "never"))
    assert "stopped early: 3 validations in a row were not finite" in capsys.readouterr().err
    published = []
    for stop in (99, 5):
        late, place = scripted(PLAN), folder(tmp_path / str(stop))
        late.__class__, Overflowing.nan = Overflowing, 4
        if stop == 5:
            with pytest.raises(KeyboardInterrupt):
                train(late, until(5, PLAN), PLAN, OneOf(), place)
            late = scripted(PLAN)
            late.__class__ = Overflowing
        published.append(train(late, batches(PLAN), PLAN, OneOf(), place))
        assert read_published(place.work) == (12, {"nats_per_image": 3.0})
    assert same(published[0], dict(published[1].state_dict()))


@pytest.mark.parametrize("now", ["fewer", "more"])
def test_an_adopted_run_may_have_other_terms(now: str, tmp_path: Path) -> None:
    """As without fp16's loss scale, or with a discriminator: its curves have all columns, and nan where a term was not."""

    class Other(StackformerTrainingModule):
        def micro_step(self, batch: TokenBatch, step: int, share: float) -> dict[str, Tensor]:
            return super().micro_step(batch, step, share) | {"more": torch.tensor(1.0)}

        def validate(self, step: int) -> dict[str, float]:
            return super().validate(step) | {"more": 1.0}

    plan = TRAINING.replaced(steps=4, validate_every=2, checkpoint_every=2, log_every=1)
    kinds = {"more": Other, "fewer": StackformerTrainingModule}
    for steps, kind in ((2, "more" if now == "fewer" else "fewer"), (4, now)):
        subject = tokens.training_module(plan)
        subject.__class__ = kinds[kind]
        train(subject, batches(plan), plan.replaced(steps=steps), OneOf(), folder(tmp_path))
    for name, rows_ in (("curves", [1, 2, 3, 4]), ("validation", [2, 4])):
        past = Curves(tmp_path / "metrics" / f"{name}.tsv", 99).past()
        assert [step for step, _ in past] == rows_
        assert [math.isnan(terms["more"]) for _, terms in past] == [
            (step > 2) == (now == "fewer") for step, _ in past
        ]
        assert not any(
            math.isnan(value) for _, terms in past for key, value in terms.items() if key != "more"
        )


@pytest.mark.parametrize(
    ("done", "old", "new", "refused"),
    [(300, 500, 100, True), (300, 500, 300, True), (300, 500, 301, False), (600, 500, 100, False),
     (0, 500, 0, True), (300, 100, 500, False), (300, 500, 500, False)],
)  # fmt: skip
def test_an_adopted_run_does_not_pass_the_step_that_makes_its_codebook(
    done: int, old: int, new: int, refused: bool
) -> None:
    before, now = (
        images.TRAINING.replaced(quantize_start=step, steps=900).model_dump(mode="json")
        for step in (old, new)
    )
    said = codebook_missed(done, before, now)
    assert bool(said) == refused
    assert not refused or said.endswith(f"the codebook is made at that step; expected > {done}")
    gradient = now | {"model": now["model"] | {"quantizer": now["model"]["quantizer"] | {"kind": "gradient"}}}
    for fine in (gradient, now | {"init_from": "published"}):
        assert not codebook_missed(done, before, fine)
    assert not codebook_missed(done, PLAN.model_dump(mode="json"), PLAN.model_dump(mode="json"))


def test_more_steps_are_said_to_raise_the_rate_again() -> None:
    before = {"steps": 100, "learning_rate": 0.01, "warmup_steps": 0, "min_lr_ratio": 0.0}
    now = before | {"steps": 200}
    assert schedule_change(100, before, now).startswith(
        "steps 100 → 200: the learning rate is a cosine over all steps, so at step 100 it goes from 0 to 0.005 and falls to 0 by"
    )
    assert schedule_change(100, before, before) == schedule_change(1, {"batch": 1}, {"batch": 2}) == ""
    assert "no step follows" in schedule_change(100, before, before | {"steps": 50})

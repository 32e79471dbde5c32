"""Laws of Stackformer's training: what it sees, what it minimises, that it continues where it was."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from settings.stackformer import StackformerSettings
from settings.training import OptimizerKind
from shards.token_making.writing import pack_positions
from shards.tokens import TokenSplit
from training.loop.train import TrainingFolder, train
from training.stackformer.batches import TokenBatch, TokenBatches, held_out, token_batch
from training.stackformer.module import StackformerTrainingModule, parameter_groups

NETWORK = NetworkConfig(16, 2, 2, 1, 0.0, "ascending")
CLASSES = StackformerConfig(NETWORK, 8, 9, 4, "class", 1, 3)
CAPTIONS = replace(CLASSES, condition="text", condition_length=2, condition_vocab=20)
TRAINING = StackformerSettings(
    steps=30,
    learning_rate=1e-2,
    warmup_steps=3,
    min_lr_ratio=0.1,
    beta1=0.9,
    beta2=0.95,
    weight_decay=0.01,
    max_grad_norm=1.0,
    ema_decay=0.8,
    precision="fp32",
    compile=False,
    max_bad_steps=0,
    seed=0,
    global_batch=16,
    micro_batch=8,
    init_from=None,
    log_every=10,
    validate_every=30,
    validate_images=21,
    checkpoint_every=30,
    condition="class",
    cfg_dropout=0.1,
    model=NETWORK,
)

GOLDEN = Path(__file__).with_name("golden_stackformer.json")


@dataclass(frozen=True)
class OneOf:
    """Worker `rank` of `size`, alone in its process."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def tokens(count: int = 60) -> TokenSplit:
    """Images whose codes follow from their class, but for a little noise; 0 … 3 captions each."""
    generator = np.random.default_rng(0)
    cls = generator.integers(3, size=count).astype(np.uint16)
    codes = (cls[:, None] * 2 + np.arange(4) + generator.integers(2, size=(count, 4))) % 8
    positions = np.stack([np.sort(generator.permutation(9)[:4]) for _ in range(count)])
    positions[:, 0], positions[:, 1:] = np.minimum(positions[:, 0], 2), [[3, 5, 8]]
    return TokenSplit(
        keys=tuple(f"{i:03d}" for i in range(count)),
        codes=codes.astype(np.uint16),
        kept=pack_positions(positions, 9),
        cls=cls,
        text=(np.arange(count)[:, None, None] % 5 * 3 + np.arange(3)[:, None] + np.zeros(2)).astype(
            np.uint16
        ),
        caption_count=(np.arange(count) % 4).astype(np.uint8),
        shard_sizes=(count,),
    )


def training_module(settings: StackformerSettings = TRAINING) -> StackformerTrainingModule:
    """A fresh model in training."""
    torch.manual_seed(0)
    unseen = held_out(tokens(), CLASSES, 21)
    return StackformerTrainingModule(Stackformer(CLASSES), settings, unseen, torch.device("cpu"))


def batches(settings: StackformerSettings = TRAINING, workers: OneOf | None = None) -> TokenBatches:
    """Of the small token set."""
    return TokenBatches(tokens(), CLASSES, settings, workers or OneOf())


def folder(path: Path) -> TrainingFolder:
    """All below `path`."""
    return TrainingFolder(path / "work", path / "metrics", path / "progress.json")


def curves(path: Path) -> dict[str, list[float]]:
    """Columns of a run's curves."""
    header, *rows = [line.split("\t") for line in (path / "metrics" / "curves.tsv").read_text().splitlines()]
    return {name: [float(row[column]) for row in rows] for column, name in enumerate(header)}


def golden_losses(path: Path) -> dict[str, list[float]]:
    """Losses of 30 steps in float64 at every tenth step."""
    train(training_module(TRAINING.replaced(precision="float64")), batches(), TRAINING, OneOf(), folder(path))
    return {name: curves(path)[name] for name in ("code", "position")}


def test_thirty_steps_lower_the_likelihood_loss_of_codes_and_of_positions(tmp_path: Path) -> None:
    learner = training_module()
    before = learner.validate(0)
    train(learner, batches(), TRAINING, OneOf(), folder(tmp_path))
    after = learner.validate(30)
    assert after["code_nats_per_image"] < 0.9 * before["code_nats_per_image"]
    assert after["position_nats_per_image"] < 0.9 * before["position_nats_per_image"]
    assert {"loss", "code", "position"} <= curves(tmp_path).keys()


def test_the_losses_of_thirty_steps_are_the_golden_ones(tmp_path: Path) -> None:
    """Rewrite the file on purpose with: python -m tests.training.test_stackformer_training."""
    golden = json.loads(GOLDEN.read_text())
    found = golden_losses(tmp_path)
    for name in ("code", "position"):
        assert found[name] == pytest.approx(golden[name], rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, optimizer: OptimizerKind) -> None:
    plan = TRAINING.replaced(steps=6, checkpoint_every=2, validate_every=3, optimizer=optimizer)
    whole = training_module(plan)
    train(whole, batches(plan), plan, OneOf(), folder(tmp_path / "whole"))

    def killed(step: int) -> list[TokenBatch]:
        if step == 3:
            raise KeyboardInterrupt
        return batches(plan)(step)

    with pytest.raises(KeyboardInterrupt):
        train(training_module(plan), killed, plan, OneOf(), folder(tmp_path / "killed"))
    again = training_module(plan)
    train(again, batches(plan), plan, OneOf(), folder(tmp_path / "killed"))
    for name, weight in whole.ema.model.state_dict().items():
        assert torch.equal(weight, again.ema.model.state_dict()[name]), name


def test_only_linear_maps_decay() -> None:
    model = Stackformer(CLASSES)
    decaying, rest = (group["params"] for group in parameter_groups(model, 0.1))
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert len(decaying) + len(rest) == len(names)
    for weight in decaying:
        assert weight.ndim == 2 and not names[id(weight)].startswith("e_")
    kept = {names[id(weight)] for weight in rest}
    assert {"e_c.weight", "e_p.weight", "e_t.weight"} <= kept
    assert all(name.startswith("e_") or "norm" in name or name.endswith("bias") for name in kept)
    assert [group["weight_decay"] for group in parameter_groups(model, 0.1)] == [0.1, 0.0]


def test_gradients_of_micro_batches_add_up_to_the_global_batch() -> None:
    plan = TRAINING.replaced(precision="float64")
    parts, whole = training_module(plan), training_module(plan)
    for batch in batches()(0):
        parts.micro_step(batch, 0, share=0.5)
    [together] = batches(TRAINING.replaced(micro_batch=16))(0)
    whole.micro_step(together, 0, share=1.0)
    for (name, a), b in zip(parts.model.named_parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-12, msg=name)


def test_workers_share_out_the_batches_of_one() -> None:
    alone = batches()(5)
    shared = [batches(workers=OneOf(rank, 2))(5) for rank in range(2)]
    for batch, [part] in zip(alone, shared, strict=True):
        assert torch.equal(batch.codes_BN, part.codes_BN) and torch.equal(
            batch.condition_BC, part.condition_BC
        )


def test_every_image_comes_once_an_epoch_with_its_own_tokens() -> None:
    plan = TRAINING.replaced(global_batch=20, micro_batch=20, cfg_dropout=0.0)
    split, seen = tokens(), [batches(plan)(step)[0] for step in range(3)]
    rows = torch.cat([torch.cat([b.codes_BN, b.positions_BN, b.condition_BC], dim=1) for b in seen])
    whole = token_batch(split, CLASSES, range(60), [0] * 60)
    expected = torch.cat([whole.codes_BN, whole.positions_BN, whole.condition_BC], dim=1)
    assert sorted(rows.tolist()) == sorted(expected.tolist()) and rows.tolist() != expected.tolist()
    assert whole.codes_BN.tolist() == split.codes.tolist()
    assert (whole.positions_BN.diff(dim=1) > 0).all()


def test_the_condition_is_dropped_at_its_share_and_keyed_by_seed_epoch_and_sample() -> None:
    plan = TRAINING.replaced(global_batch=600, micro_batch=600, cfg_dropout=0.3)
    [batch] = batches(plan)(0)
    dropped = batch.condition_BC[:, 0] == CLASSES.null_code
    assert 0.22 < dropped.float().mean() < 0.38
    assert torch.equal(batches(plan)(0)[0].condition_BC, batch.condition_BC)
    assert not torch.equal(dropped, batches(plan)(1)[0].condition_BC[:, 0] == CLASSES.null_code)
    kept = batches(plan.replaced(cfg_dropout=0.0))(0)[0].condition_BC
    assert (kept < 3).all() and torch.equal(kept[~dropped], batch.condition_BC[~dropped])


def test_captions_are_drawn_from_those_an_image_has() -> None:
    plan = TRAINING.replaced(global_batch=60, micro_batch=60, seed=1, cfg_dropout=0.0)
    draw = TokenBatches(tokens(), CAPTIONS, plan, OneOf())
    seen: dict[int, set[int]] = {}
    split = tokens()
    for step in range(12):
        for codes, condition in zip(draw(step)[0].codes_BN, draw(step)[0].condition_BC, strict=True):
            matches = [i for i in range(60) if split.codes[i].tolist() == codes.tolist()]
            for i in matches if len(matches) == 1 else []:
                seen.setdefault(i, set()).add(int(condition[0]))
    assert seen
    for i, found in seen.items():
        count = i % 4
        assert found == ({i % 5 * 3 + c for c in range(count)} if count else {CAPTIONS.null_code})


def test_validation_is_the_mean_likelihood_of_the_averaged_weights_whatever_the_batch() -> None:
    learner = training_module(TRAINING.replaced(precision="float64"))
    for step in range(3):
        learner.optimizers["model"].zero_grad(set_to_none=True)
        for batch in batches()(step):
            learner.micro_step(batch, step, 0.5)
        learner.finish_step(step, lambda tensor: tensor)
    unseen, model = learner.held_out, learner.ema.model
    output = model(unseen.codes_BN, unseen.positions_BN, unseen.condition_BC)
    expected = -learner.model.loss(output, unseen.codes_BN, unseen.positions_BN).log_likelihood_B.mean()
    for micro_batch in (1, 8, 21):
        learner.settings = TRAINING.replaced(micro_batch=micro_batch, precision="float64")
        assert learner.validate(3)["nats_per_image"] == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.float32), ("float64", torch.float64)]
)
def test_precision_settings_agree_to_their_precision(precision: str, dtype: torch.dtype) -> None:
    learner, exact = training_module(TRAINING.replaced(precision=precision)), training_module()
    [batch, _] = batches()(0)
    got, expected = learner.micro_step(batch, 0, 1.0), exact.micro_step(batch, 0, 1.0)
    assert {weight.dtype for weight in learner.model.parameters()} == {dtype}
    assert float(got["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-2)


def test_clipping_bounds_the_gradient_and_the_rate_follows_the_schedule() -> None:
    learner = training_module(TRAINING.replaced(max_grad_norm=0.01))
    for batch in batches()(0):
        learner.micro_step(batch, 0, 0.5)
    told = learner.finish_step(0, lambda tensor: tensor)
    norm = nn.utils.get_total_norm(
        [weight.grad for weight in learner.model.parameters() if weight.grad is not None]
    )
    assert told["gradient_norm"] > 0.01 and float(norm) == pytest.approx(0.01, rel=1e-4)
    assert told["learning_rate"] == pytest.approx(1e-2 / 4)


def test_dropout_is_the_same_for_the_same_step_and_another_for_the_next() -> None:
    config = replace(CLASSES, network=replace(NETWORK, dropout=0.3))
    torch.manual_seed(0)
    make: Callable[[], Stackformer] = lambda: Stackformer(config)  # noqa: E731
    learner = StackformerTrainingModule(make(), TRAINING, held_out(tokens(), config, 4), torch.device("cpu"))
    [batch, _] = batches()(0)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(learner.micro_step(batch, 0, 1.0)["loss"]))
    assert losses[0] == losses[1] != losses[2]
    assert learner.validate(0) == learner.validate(0)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        torch.set_num_threads(1)
        GOLDEN.write_text(json.dumps(golden_losses(Path(name)), indent=1) + "\n")

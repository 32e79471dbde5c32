"""Laws of the look at a step before it is taken, of steps without a wait for the device, and of tensors' strides."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from models.stackformer import Stackformer
from tests.training import test_mqvae_training as images
from tests.training import test_stackformer_training as tokens
from training.loop import group, watch
from training.loop import train as loop
from training.loop.checkpoints import load_checkpoint, save_checkpoint
from training.loop.optimizers import Muon
from training.loop.train import train
from training.loop.watch import Watch
from training.mqvae.module import ImageBatch, MQVAETrainingModule
from training.stackformer.module import StackformerTrainingModule
from workspace.errors import PeerLostError, UserError


def spoiling(
    training_module: MQVAETrainingModule | StackformerTrainingModule, at: int, which: str, value: float
) -> None:
    """Make one gradient of a module not finite at a step, after the losses were."""
    whole = training_module.micro_step

    def micro_step(batch: ImageBatch, step: int, share: float) -> dict[str, Tensor]:
        terms = whole(batch, step, share)  # type: ignore[arg-type]
        if step == at:
            weight = list(training_module.modules[which].parameters())[1]
            assert weight.grad is not None
            weight.grad.view(-1)[0] = value
        return terms

    training_module.micro_step = micro_step  # type: ignore[method-assign, assignment]


def state(training_module: MQVAETrainingModule | StackformerTrainingModule) -> dict[str, Tensor]:
    """All weights, averages and the codebook."""
    return {
        f"{name}/{key}": tensor.clone()
        for name, module in training_module.modules.items()
        for key, tensor in module.state_dict().items()
    }


@pytest.mark.parametrize(
    ("precision", "which", "value"),
    [("float64", "model", math.inf), ("bf16", "model", math.nan), ("bf16", "discriminator", -math.inf)],
)
def test_one_gradient_that_is_not_finite_stops_an_mqvae_before_anything_moves(
    tmp_path: Path, precision: str, which: str, value: float
) -> None:
    training = images.TRAINING.replaced(precision=precision)
    subject = images.training_module(training)
    plan = images.TRAINING.replaced(validate_every=20)
    spoiling(subject, 13, which, value)
    with pytest.raises(
        UserError, match=rf"^step 14: the {which}'s gradient norm is (inf|nan); .*step-000000010\)$"
    ):
        train(subject, images.batches(plan), plan, images.Alone(), images.folder(tmp_path / "bad"))
    good = images.training_module(training)
    short = plan.replaced(steps=13)  # the schedules' length is the training's, not the loop's
    train(good, images.batches(plan), short, images.Alone(), images.folder(tmp_path / "good"))
    torch.testing.assert_close(state(subject), state(good), rtol=0, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_for_a_stackformer(tmp_path: Path, precision: str) -> None:
    plan = tokens.TRAINING.replaced(precision=precision)
    subject, good = tokens.training_module(plan), tokens.training_module(plan)
    spoiling(subject, 2, "model", -math.inf)
    with pytest.raises(UserError, match=r"^step 3: the gradient's norm is inf; .* is none yet\)$"):
        train(subject, tokens.batches(), tokens.TRAINING, tokens.OneOf(), tokens.folder(tmp_path / "bad"))
    short = tokens.TRAINING.replaced(steps=2)
    train(good, tokens.batches(), short, tokens.OneOf(), tokens.folder(tmp_path / "good"))
    torch.testing.assert_close(state(subject), state(good), rtol=0, atol=0)


def test_sums_of_features_that_are_not_finite_leave_the_codebook_as_it_was(tmp_path: Path) -> None:
    subject = images.training_module()
    for step in range(6):
        subject.micro_step(images.batches(images.TRAINING)(step)[0], step, 0.5)
        subject.finish_step(step, lambda tensor: tensor)
    before = {name: tensor.clone() for name, tensor in subject.model.quantizer.state_dict().items()}
    subject.micro_step(images.batches(images.TRAINING)(6)[0], 6, 0.5)
    subject._codebook_batches[0].features_BND[0, 0, 0] = math.nan
    looking = Watch(torch.device("cpu"), tmp_path)
    looking.begin(6)
    with pytest.raises(UserError, match="step 7: the largest sum of a code's features is nan"):
        subject.finish_step(6, lambda tensor: tensor, looking.admit)
    torch.testing.assert_close(dict(subject.model.quantizer.state_dict()), before, rtol=0, atol=0)


def never(numbers: Mapping[str, Tensor]) -> Tensor:
    return torch.zeros((), dtype=torch.bool)


def test_a_codebook_moves_only_where_it_is_admitted() -> None:
    subject = images.training_module()
    subject.micro_step(images.batches(images.TRAINING)(3)[0], 3, 0.5)
    quantizer, seen = subject.model.quantizer, subject._codebook_batches
    start = quantizer.codebook_KD.clone()
    quantizer.initialise(seen, 4, 0, lambda tensor: tensor, never)
    quantizer.update(seen, 4, True, 0, lambda tensor: tensor, never)
    assert torch.equal(quantizer.codebook_KD, start) and not quantizer.count_K.any()
    quantizer.initialise(seen, 4, 0, lambda tensor: tensor)
    assert not torch.equal(quantizer.codebook_KD, start)


def fused(weights: list[nn.Parameter]) -> Optimizer:
    return Adam(weights, lr=0.1, fused=True)


def momentum(weights: list[nn.Parameter]) -> Optimizer:
    return SGD(weights, lr=0.1, momentum=0.9)


@pytest.mark.parametrize(
    ("make", "guarded"), [(fused, watch._fused_step_if), (momentum, watch._restoring_step_if)]
)
def test_a_step_on_a_device_moves_no_weight_where_something_is_not_finite(
    make: Callable[[list[nn.Parameter]], Optimizer], guarded: Callable[[Optimizer, Tensor], None]
) -> None:
    weights = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(5))]
    optimizer, fine = make(weights), torch.tensor(True)
    steps = []
    for number in range(4):
        for weight in weights:
            weight.grad = torch.full_like(weight, math.nan if number == 2 else 1.0)
        fine = fine & torch.tensor(number != 2)
        before = [weight.detach().clone() for weight in weights]
        guarded(optimizer, fine)
        steps.append([not torch.equal(a, b) for a, b in zip(before, weights, strict=True)])
    assert steps == [[True] * 2, [True] * 2, [False] * 2, [False] * 2]
    assert all(torch.isfinite(weight).all() for weight in weights)


def test_off_the_cpu_the_first_bad_step_and_number_are_kept_until_the_host_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, look = Watch(torch.device("cpu"), tmp_path), Watch.look
    monkeypatch.setattr(Watch, "look", lambda self: None)  # as on a device: admitting does not look
    for step, loss, norm in [(0, 1.0, 2.0), (1, 3.0, math.inf), (2, math.nan, 5.0), (3, 1.0, 1.0)]:
        looking.begin(step)
        looking.admit({"the loss": torch.tensor(loss)})
        fine = looking.admit({"the norm": torch.tensor(norm)})
        assert bool(fine) == (step < 1)
    with pytest.raises(UserError, match="^step 2: the norm is inf;"):
        look(looking)


def on_nothing(training_module: MQVAETrainingModule | StackformerTrainingModule) -> None:
    """Optimisers that run on tensors without data; fused ones do not."""
    training_module.optimizers = {
        name: it if isinstance(it, Muon) else Adam(it.param_groups[0]["params"], foreach=False)
        for name, it in training_module.optimizers.items()
    }


def test_a_training_step_reads_no_number_from_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device `meta` there are no numbers: `.item()`, `.tolist()`, a mask as an index, bincount, all raise."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **named: nullcontext())  # knows no such device
    nowhere = torch.device("meta")
    for mask, optimizer in (("adaptive", "adamw"), ("random", "muon")):
        config = dataclasses.replace(images.CONFIG, mask=mask, channels=16)
        training = images.TRAINING.replaced(precision="fp32", optimizer=optimizer)
        model = images.MQVAE(config)
        painter = MQVAETrainingModule(
            model, training, None, torch.zeros(4, 3, 8, 8), nowhere, lambda *_: None
        )
        on_nothing(painter)
        looking = Watch(nowhere, tmp_path)
        for step in (0, 3, 4, 8, 13):  # bypass, first codes, update, restart, discriminator
            looking.begin(step)
            for first in (0, 4):
                batch = ImageBatch(torch.zeros(4, 3, 8, 8), first, [1, 2, 3, 4])
                looking.admit(painter.micro_step(batch, step, 0.5))
            told = painter.finish_step(step, lambda tensor: tensor, looking.admit)
        assert isinstance(told["codes_restarted"], Tensor) and told["codes_restarted"].is_meta
    unseen = tokens.held_out(tokens.tokens(), tokens.CLASSES, 21)
    writer = StackformerTrainingModule(Stackformer(tokens.CLASSES), tokens.TRAINING, unseen, nowhere)
    on_nothing(writer)
    looking = Watch(nowhere, tmp_path)
    for batch in tokens.batches()(0):
        looking.admit(writer.micro_step(batch, 0, 0.5))
    assert writer.finish_step(0, lambda tensor: tensor, looking.admit)["gradient_norm"].is_meta  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        looking.look()


def test_numbers_leave_the_device_at_the_steps_that_ask_for_them_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, float]] = []
    monkeypatch.setattr(loop, "floats", lambda numbers: asked.append(watch.floats(numbers)) or asked[-1])
    for name, every in (("each", 1), ("some", 7)):
        asked.clear()
        plan = images.TRAINING.replaced(log_every=every, validate_every=20, checkpoint_every=20)
        train(
            images.training_module(),
            images.batches(plan),
            plan,
            images.Alone(),
            images.folder(tmp_path / name),
        )
    assert len(asked) == 3  # after 7, 14 and 20 steps
    for name in ("loss", "gradient_norm", "codebook_perplexity", "codes_restarted"):
        each, some = (images.losses(tmp_path / which, name) for which in ("each", "some"))
        assert some == [each[6], each[13], each[19]]


@pytest.mark.parametrize("optimizer", [Adam, momentum])
def test_moments_have_their_weights_strides_after_a_resume(
    tmp_path: Path, optimizer: Callable[[list[nn.Parameter]], Optimizer]
) -> None:
    layer = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    learner = optimizer(list(layer.parameters()))
    layer(torch.randn(2, 4, 5, 5)).sum().backward()
    learner.step()
    before = {id(weight): dict(values) for weight, values in learner.state.items()}
    path = save_checkpoint(tmp_path, 1, {"model": layer}, {"model": learner})
    again = optimizer(list(layer.parameters()))
    load_checkpoint(path, {"model": layer}, {"model": again})
    shaped = 0
    for weight, values in again.state.items():
        for name, value in values.items():
            assert torch.equal(value, before[id(weight)][name])
            if value.shape == weight.shape:
                assert value.stride() == weight.stride()
                shaped += 1
    assert shaped >= 2 and not layer.weight.is_contiguous()


def test_a_fused_optimiser_goes_on_to_the_same_bits_after_a_resume_with_channels_last(tmp_path: Path) -> None:
    """It reads moments in the order of memory: contiguous ones would be mixed up in silence."""
    torch.manual_seed(0)
    data = torch.randn(5, 2, 4, 5, 5)
    layers = [nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer, cut in zip(layers, (None, 2), strict=True):
        learner = fused(list(layer.parameters()))
        for step, image in enumerate(data):
            if step == cut:
                path = save_checkpoint(tmp_path, step, {"model": layer}, {"model": learner})
                learner = fused(list(layer.parameters()))
                load_checkpoint(path, {"model": layer}, {"model": learner})
            learner.zero_grad()
            layer(image).square().sum().backward()
            learner.step()
    torch.testing.assert_close(dict(layers[0].state_dict()), dict(layers[1].state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (RuntimeError("Connection closed by peer"), PeerLostError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (TypeError("a slip"), TypeError),
    ],
)
def test_a_sum_that_fails_tells_of_a_lost_peer_but_for_a_mistake_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, told: type[Exception]
) -> None:
    def fails(tensor: Tensor) -> None:
        raise raised

    monkeypatch.setattr(torch.distributed, "all_reduce", fails)
    with pytest.raises(told, match=str(raised)) as found:
        group.reducer(2)(torch.zeros(1))
    assert type(found.value) is told

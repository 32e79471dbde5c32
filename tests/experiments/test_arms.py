"""Laws of the arms of the paper's tables: each one builds and learns, and differs from its rival in what it is named for."""

from functools import cache

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from demo.drawing import Drawing, draw_shape
from experiments.arm import ARMS, SEEDED, command_lines, settings_of
from models.mqvae import MQVAE
from models.stackformer import Stackformer, StackformerConfig
from shards.images.pixels import to_float
from tests.committed import ROOT
from training.mqvae.module import ImageBatch, MQVAETrainingModule
from training.stackformer.batches import TokenBatch
from training.stackformer.module import StackformerTrainingModule
from workflow.params import Params, load_params
from workspace.errors import UserError

DEMO = ROOT / "presets" / "shapes.yaml"
CATALOGUE = yaml.safe_load((ROOT / ARMS).read_text(encoding="utf-8"))
TABLES = ("table6", "table7", "real")
STEPS, BATCH, SIDE = 12, 8, 16
SMALL = (
    f"mqvae.steps={STEPS}",
    "mqvae.quantize_start=4",
    f"mqvae.model.image_size={SIDE}",
    "mqvae.model.num_codes=16",
    f"shapes.image_size={SIDE}",
    f"shard.image_size={SIDE}",
    f"stackformer.steps={STEPS}",
    "stackformer.warmup_steps=2",
    "mqvae.model.channels=16",
    "stackformer.model.width=64",
)


def params_of(arm: str, *changes: str) -> Params:
    return load_params(DEMO, [*settings_of(ROOT / ARMS, "shapes", arm, seed=0), *SMALL, *changes])


def mqvae_of(arm: str) -> MQVAE:
    settings = params_of(arm).mqvae
    torch.manual_seed(settings.seed)
    return MQVAE(settings.model)


@cache
def pictures() -> Tensor:
    """[32, 3, SIDE, SIDE] in [-1, 1]."""
    drawing = Drawing(SIDE, (0.32, 0.44), 0.2, 15.0)
    images = np.stack([draw_shape(drawing, 0, "train", number).image for number in range(4 * BATCH)])
    return torch.from_numpy(to_float(images))


@cache
def trained(arm: str, again: int = 0) -> tuple[MQVAE, tuple[float, ...]]:
    """The arm's MQ-VAE after 12 steps, and the L1 of each."""
    settings = params_of(arm).mqvae
    torch.manual_seed(settings.seed)
    training_module = MQVAETrainingModule(
        MQVAE(settings.model),
        settings.replaced(global_batch=BATCH, micro_batch=BATCH),
        None,
        pictures()[:4],
        torch.device("cpu"),
        lambda *_: None,
    )
    losses = []
    for step in range(STEPS):
        first = step * BATCH % len(pictures())
        batch = ImageBatch(pictures()[first : first + BATCH], 0, range(step * BATCH, (step + 1) * BATCH))
        training_module.optimizers["model"].zero_grad()
        losses.append(float(training_module.micro_step(batch, step, 1.0)["l1"].detach()))
        training_module.finish_step(step, lambda tensor: tensor)
    return training_module.model.eval(), tuple(losses)


def stackformer_losses(arm: str) -> list[float]:
    """NLL of 12 steps on the arm's own tokens."""
    settings = params_of(arm).stackformer
    model, _ = trained(arm)
    ranking = (
        torch.rand(len(pictures()), model.config.num_positions) if model.config.mask == "random" else None
    )
    tokens = model.tokenize(pictures(), ranking)
    torch.manual_seed(settings.seed)
    facts = {name: getattr(model.config, name) for name in ("num_codes", "num_positions", "num_kept")}
    config = StackformerConfig(
        settings.model, **facts, condition="none", condition_length=1, condition_vocab=1
    )
    batch = TokenBatch(
        tokens.codes_BN, tokens.positions_BN, torch.zeros(len(pictures()), 1, dtype=torch.int64)
    )
    training_module = StackformerTrainingModule(
        Stackformer(config), settings.replaced(micro_batch=8), batch, torch.device("cpu")
    )
    losses = []
    for step in range(STEPS):
        training_module.optimizers["model"].zero_grad()
        terms = training_module.micro_step(batch, step, 1.0)
        losses.append(float((terms["code"] + terms["position"]).detach()))
        training_module.finish_step(step, lambda tensor: tensor)
    return losses


@pytest.mark.parametrize("arm", CATALOGUE["arms"])
def test_each_arm_builds_and_lowers_its_l1_and_its_likelihood(arm: str) -> None:
    _, l1 = trained(arm)
    assert np.mean(l1[-3:]) < 0.9 * np.mean(l1[:3])
    nats = stackformer_losses(arm)
    assert nats[-1] < nats[0] - 0.1


def test_equal_seeds_give_equal_runs() -> None:
    for arm in ("adaptive-50", "random-50"):
        first, second = trained(arm), trained(arm, again=1)
        assert first[0] is not second[0] and first[1] == second[1]
        for name, weight in first[0].state_dict().items():
            assert torch.equal(weight, second[0].state_dict()[name]), name


def test_adaptive_and_random_arms_differ_in_the_ranking_alone() -> None:
    for ratio in (25, 50, 75):
        adaptive, random = params_of(f"adaptive-{ratio}"), params_of(f"random-{ratio}")
        one = adaptive.mqvae.model_dump()
        other = random.mqvae.model_dump()
        assert (one["model"].pop("mask"), other["model"].pop("mask")) == ("adaptive", "random")
        assert one == other and adaptive.stackformer == random.stackformer
    adaptive_model, random_model = mqvae_of("adaptive-50").eval(), mqvae_of("random-50").eval()
    for name, weight in adaptive_model.state_dict().items():
        assert torch.equal(weight, random_model.state_dict()[name]), name
    image = pictures()[:4]
    logits_BL = adaptive_model.masker.scorer(adaptive_model.encode(image)).squeeze(-1)
    given, own = random_model(image, ranking_BL=logits_BL), adaptive_model(image)
    assert torch.equal(given.reconstruction_BCHW, own.reconstruction_BCHW)
    assert torch.equal(given.scores_BL, own.scores_BL)


def size(arm: str, part: str = "") -> int:
    module = mqvae_of(arm)
    return sum(weight.numel() for name, weight in module.named_parameters() if name.startswith(part))


def test_parameters_differ_by_what_an_arm_has_and_its_rival_has_not() -> None:
    assert size("adaptive-25") == size("adaptive-50") == size("adaptive-75") == size("random-50")
    assert size("demask-sa") == size("demask-dcsa") == size("adaptive-50") == size("renormalised-50")
    demask = size("adaptive-50", "demasker")
    assert demask > 0 and size("demask-none") == size("adaptive-50") - demask
    scorer = size("adaptive-50", "masker.scorer")
    assert (
        size("vqgan-star") == size("adaptive-50") - scorer and size("vqgan") == size("demask-none") - scorer
    )
    model = params_of("simvq-50").mqvae.model
    assert size("simvq-50") == size("adaptive-50") + model.code_dim**2
    assert size("gradient-50") == size("adaptive-50") + model.code_dim * model.num_codes
    assert size("rotation-50") == size("adaptive-50")


def test_the_raster_gpt_is_as_deep_and_wide_as_both_transformers_together() -> None:
    raster = params_of("vqgan").stackformer.model
    stacked = params_of("adaptive-50").stackformer.model
    assert raster.position_layers == 0
    assert raster.code_layers == stacked.code_layers + stacked.position_layers
    assert (raster.width, raster.heads) == (stacked.width, stacked.heads)


@pytest.mark.parametrize("table", TABLES)
def test_every_row_and_ordering_of_a_table_is_an_arm_of_the_catalogue(table: str) -> None:
    values = yaml.safe_load((ROOT / "experiments" / table / "params.yaml").read_text(encoding="utf-8"))
    rows = {row["arm"] for row in values["rows"]}
    named = {side for one in values["orderings"] for side in (one["better"], one["worse"])}
    assert named <= rows and {*rows, *values["trained"]} <= set(CATALOGUE["arms"])
    assert set(values.get("generated", [])) <= set(values["trained"])


def test_an_unknown_arm_or_stage_is_named() -> None:
    with pytest.raises(UserError, match=r"adaptive-51 is not one of its arms: vqgan, "):
        settings_of(ROOT / ARMS, "shapes", "adaptive-51", 0)
    with pytest.raises(UserError, match=r"smaple is not a stage; expected one of draw_shapes, "):
        command_lines(["tokenize", "--out", "x", "then", "smaple"], [])


def test_stages_of_an_arm_share_its_settings() -> None:
    words = ["tokenize", "--out", "x", "then", "sample", "--out", "y"]
    assert command_lines(words, ["--set", "a.b=1"]) == [
        ["tokenize", "--out", "x", "--set", "a.b=1"],
        ["sample", "--out", "y", "--set", "a.b=1"],
    ]


def test_a_base_takes_anothers_settings_and_its_own_come_last() -> None:
    told = dict(text.split("=", 1) for text in settings_of(ROOT / ARMS, "longer", "adaptive-50", 1))
    plain = dict(text.split("=", 1) for text in settings_of(ROOT / ARMS, "shapes", "adaptive-50", 1))
    assert {key for key in told if told[key] != plain.get(key)} == {
        "mqvae.steps",
        "mqvae.quantize_start",
        *(f"mqvae.exploration.{name}" for name in ("anneal_start", "anneal_end", "freeze_start")),
    }
    changes = settings_of(ROOT / ARMS, "longer", "adaptive-50", 1)
    section = load_params(DEMO, changes).mqvae
    assert (section.steps, section.quantize_start) == (1500, 150)


@pytest.mark.parametrize("base", CATALOGUE["bases"])
def test_every_stage_accepts_every_arm_on_every_base(base: str) -> None:
    params_file = (
        ROOT / "presets" / "faces.yaml" if base.startswith(("real", "tuning", "court_photographs")) else DEMO
    )
    for arm in CATALOGUE["arms"]:  # loading checks the stages' sections, alone and together
        sections = vars(load_params(params_file, settings_of(ROOT / ARMS, base, arm, 7)))
        assert {sections[name].seed for name in SEEDED} == {7}

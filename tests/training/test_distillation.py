"""Laws of a scorer that learns what leaving a cell out costs."""

import dataclasses
import math
from itertools import combinations
from typing import Any

import pytest
import torch

from models.mqvae import MQVAE
from settings.mqvae import ExplorationConfig
from tests.training.test_mqvae_training import CONFIG, LOSS, TRAINING, batches, training_module
from training.mqvae.distillation import LEFT_OUT, distillation, left_out, ranking_loss, worth
from workspace.errors import UserError
from workspace.settings import Compute

SCORER_ALONE = ExplorationConfig(noise=2.0, anneal_start=6, anneal_end=12, freeze_start=0)
TAUGHT = TRAINING.replaced(
    loss=dataclasses.replace(LOSS, adversarial=0.0, distillation=1.0), exploration=SCORER_ALONE
)


def test_what_is_left_out_are_different_kept_cells_by_each_images_seed() -> None:
    places_BM = left_out(range(50), 6)
    assert places_BM.shape == (50, LEFT_OUT) and places_BM.min() == 0 and places_BM.max() == 5
    assert all(len(set(row)) == LEFT_OUT for row in places_BM.tolist())
    assert torch.equal(left_out([7], 6)[0], places_BM[7]) and left_out([1], 3).shape == (1, 3)


def test_worth_is_the_error_without_the_cell() -> None:
    torch.manual_seed(0)
    model = MQVAE(CONFIG).double().eval()
    image_BCHW = torch.rand(2, 3, 8, 8, dtype=torch.float64) * 2 - 1
    tokens = model.tokenize(image_BCHW)
    vectors_BND, places_BM = model.quantizer.lookup(tokens.codes_BN), torch.tensor([[0, 2], [3, 1]])
    found_BM = worth(model, image_BCHW, vectors_BND, tokens.positions_BN, places_BM)
    for b, row in enumerate(places_BM.tolist()):
        for m, place in enumerate(row):
            rest = [n for n in range(tokens.codes_BN.shape[1]) if n != place]
            without = model.decode_tokens(
                tokens.codes_BN[b : b + 1, rest], tokens.positions_BN[b : b + 1, rest]
            )
            expected = (without - image_BCHW[b : b + 1]).square().mean()
            torch.testing.assert_close(found_BM[b, m], expected)


def test_the_loss_is_that_of_each_pair_and_wants_the_dearer_cell_on_top() -> None:
    logits_BM = torch.randn(2, 4, dtype=torch.float64).requires_grad_()
    worth_BM = torch.tensor([[0.1, 0.4, 0.2, 0.4], [3.0, 1.0, 2.0, 0.0]], dtype=torch.float64)
    expected = 0.0
    for logits, worths in zip(logits_BM.tolist(), worth_BM.tolist(), strict=True):
        pairs = [sorted((a, b), key=lambda cell: worths[cell]) for a, b in combinations(range(4), 2)]
        weights = [worths[dearer] - worths[cheaper] for cheaper, dearer in pairs]
        terms = [math.log1p(math.exp(logits[cheaper] - logits[dearer])) for cheaper, dearer in pairs]
        expected += sum(w * term for w, term in zip(weights, terms, strict=True)) / sum(weights) / 2
    loss = ranking_loss(logits_BM, worth_BM)
    assert float(loss.detach()) == pytest.approx(expected)
    assert float(ranking_loss(logits_BM, torch.ones_like(worth_BM)).detach()) == 0
    (gradient_BM,) = torch.autograd.grad(loss, logits_BM)
    assert gradient_BM[1, 0] < 0 < gradient_BM[1, 3], "the dearest is to rise and the cheapest to fall"


def test_with_frozen_scores_the_loss_reaches_the_scorer_alone_and_parts_make_the_whole() -> None:
    module = training_module(TAUGHT)
    image_BCHW, seeds = batches(TAUGHT)(0)[0].image_BCHW.double(), range(4)
    noise_BL = torch.randn(4, CONFIG.num_positions, dtype=torch.float64)
    output = module.model(image_BCHW, noise_BL, 2.0, True, with_logits=True)
    distillation(module.model, image_BCHW, output, seeds, False).backward()
    taught = {name for name, weight in module.model.named_parameters() if weight.grad is not None}
    assert taught and all(name.startswith("masker.scorer.") for name in taught)
    parts = []
    for part in (slice(0, 1), slice(1, 4)):
        of_part = module.model(image_BCHW[part], noise_BL[part], 2.0, True, with_logits=True)
        share = len(image_BCHW[part]) / 4
        parts.append(share * distillation(module.model, image_BCHW[part], of_part, seeds[part], False))
    whole = distillation(module.model, image_BCHW, output, seeds, False)
    torch.testing.assert_close(sum(parts, torch.zeros(())).double(), whole)


def test_a_step_reports_it_and_without_it_a_frozen_scorer_never_moves() -> None:
    moved = []
    for settings in (TAUGHT, TAUGHT.replaced(loss=dataclasses.replace(TAUGHT.loss, distillation=0.0))):
        module = training_module(settings)
        before = [weight.clone() for weight in module.model.masker.scorer.parameters()]
        for batch in batches(settings)(0):
            terms = module.micro_step(batch, 0, 0.5)
        module.finish_step(0, lambda tensor: tensor)
        assert ("distillation" in terms) == bool(settings.loss.distillation)
        after = module.model.masker.scorer.parameters()
        moved.append(any(not torch.equal(one, other) for one, other in zip(before, after, strict=True)))
    assert moved == [True, False]


@pytest.mark.parametrize("change", [{"mask": "random"}, {"kept": "any"}, {"mask_ratio": 0.9375}])
def test_without_a_scorer_or_two_cells_there_is_nothing_to_teach(change: dict[str, Any]) -> None:
    settings = TAUGHT.replaced(model=dataclasses.replace(CONFIG, **change), precision="fp32")
    here = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
    with pytest.raises(UserError, match=r"mqvae\.loss\.distillation is 1\.0 with .*expected mask adaptive"):
        settings.check("params.yaml: mqvae", here)

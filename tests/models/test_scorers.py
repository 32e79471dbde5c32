"""Laws of the convolutional scorer: torch's own layers, averages of a whole step, and an MQ-VAE with it."""

import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.mqvae import MQVAE
from models.mqvae.scorers import ConvScorer, ScoreNorm
from tests.training.test_mqvae_training import CONFIG

YES = torch.tensor(True)


def identity(tensor: Tensor) -> Tensor:
    return tensor


def test_scores_are_those_of_torchs_layers_in_training_and_in_use() -> None:
    torch.manual_seed(0)
    scorer, theirs = ConvScorer(6, 5).double(), nn.BatchNorm2d(1).double()
    for _ in range(2):
        z_BLD = torch.randn(3, 16, 6, dtype=torch.float64)
        z_BDHW = z_BLD.transpose(1, 2).reshape(3, 6, 4, 4)
        logits = scorer.judge(
            F.relu(scorer.spread(nn.LayerNorm([6, 4, 4], elementwise_affine=False)(z_BDHW)))
        )
        torch.testing.assert_close(scorer(z_BLD)[..., 0], theirs(logits).flatten(1))
        scorer.norm.settle(identity, YES)
    scorer.eval(), theirs.eval()
    torch.testing.assert_close(scorer(z_BLD)[..., 0], theirs(logits).flatten(1))
    assert theirs.running_mean is not None
    torch.testing.assert_close(scorer.norm.mean, theirs.running_mean[0])


def test_averages_of_a_step_do_not_depend_on_who_had_which_micro_batch() -> None:
    parts = torch.randn(4, 2, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = ScoreNorm().double()
    for part in parts:
        one(part)
    workers = [ScoreNorm().double(), ScoreNorm().double()]
    for index, part in enumerate(parts):
        workers[index % 2](part)
    total = workers[0].seen_3 + workers[1].seen_3
    one.settle(identity, YES)
    for worker in workers:
        worker.settle(lambda _: total, YES)
        torch.testing.assert_close((worker.mean, worker.var), (one.mean, one.var))
    frozen = ScoreNorm()
    frozen.weight.requires_grad_(False)
    frozen(parts[0])
    frozen.settle(identity, YES)
    assert (frozen.mean, frozen.var) == (0, 1)


def test_an_mqvae_with_it_is_published_and_read_back(tmp_path: Path) -> None:
    model = MQVAE(dataclasses.replace(CONFIG, scorer="conv")).eval()
    model.save_pretrained(tmp_path)
    image = torch.rand(2, 3, 8, 8) * 2 - 1
    again = MQVAE.from_pretrained(tmp_path)
    assert torch.equal(again.tokenize(image).positions_BN, model.tokenize(image).positions_BN)
    assert again.config.scorer == "conv" and "masker.scorer.norm.mean" in again.state_dict()

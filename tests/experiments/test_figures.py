"""Laws of Figures 5 and 6: sampling without caches is Algorithm 1 too, and the pictures are whole."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from experiments.figures import codebook, likelihoods
from experiments.speed import LIKELIEST, measure, sample_uncached
from models.sampling import SamplingSettings, sample
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from reporting.line_chart import Curve, chart, side_by_side
from workspace.exact.manifest import write_manifest


def stackformer(position_layers: int, kept: int) -> Stackformer:
    torch.manual_seed(0)
    network = NetworkConfig(16, 2, 2, position_layers, 0.0, "ascending")
    model = Stackformer(StackformerConfig(network, 8, 9, kept, "none", 1, 1)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize(("position_layers", "kept"), [(1, 5), (0, 9)])
def test_without_caches_the_likeliest_image_is_the_same(position_layers: int, kept: int) -> None:
    model = stackformer(position_layers, kept)
    condition_BC = torch.zeros(3, 1, dtype=torch.int64)
    found = sample(model, condition_BC, [1, 2, 3], SamplingSettings(1.0, LIKELIEST, LIKELIEST))
    with torch.no_grad():
        codes_BN, positions_BN = sample_uncached(model, condition_BC)
    assert torch.equal(codes_BN, found.codes_BN) and torch.equal(positions_BN, found.positions_BN)


def test_speed_is_measured_of_an_artifact(tmp_path: Path) -> None:
    stackformer(1, 5).save_pretrained(tmp_path)
    found = measure(tmp_path, batch=2, repetitions=1)
    assert found.num_kept == 5 and found.cached > 0 and found.uncached > 0


def test_a_chart_is_svg_with_every_curve_and_name() -> None:
    curves = [Curve("one & two", [0, 10], [1.0, 2.0]), Curve("three", [0, 10], [2.0, 1.0], dashed=True)]
    root = ElementTree.fromstring(side_by_side([chart("title", "steps", curves, pairs=False)] * 2, 340, 200))
    text = " ".join(root.itertext())
    assert text.count("one & two") == 2 and text.count("three") == 2
    lines = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("fill") == "none"]
    assert len(lines) == 4 and sum(path.get("stroke-dasharray") is not None for path in lines) == 2


def test_figure_5s_numbers_are_the_codebooks_own(tmp_path: Path) -> None:
    (tmp_path / "mqvae").mkdir()
    codes = np.zeros((6, 4), np.float32)
    codes[:, 0] = np.arange(6)
    save_file({"quantizer.codebook_KD": codes}, tmp_path / "mqvae" / "model.safetensors")
    metrics = tmp_path / "metrics" / "reconstruct"
    metrics.mkdir(parents=True)
    told = {"codebook_usage": 0.5, "codebook_perplexity": 2.0, "codebook_effective_rank": 1.0}
    (metrics / "metrics.json").write_text(json.dumps(told))
    group, numbers = codebook(tmp_path, "a title")
    assert group.count("<circle") == 6 and "a title" in group
    assert (
        numbers["first_two_components"] == pytest.approx(1.0)
        and numbers["usage"] == 0.5
        and numbers["codes"] == 6
    )


def test_figure_6s_curves_are_nats_a_code(tmp_path: Path) -> None:
    tokens, metrics = tmp_path / "runs" / "arm" / "0" / "tokens", tmp_path / "long" / "arm" / "metrics"
    metrics.mkdir(parents=True)
    tokens.mkdir(parents=True)
    write_manifest(tokens, "token-shards", {"num_kept": 4}, {})
    (metrics / "curves.tsv").write_text("step\tcode\tposition\n10\t2.0\t1.0\n20\t1.0\t0.5\n")
    (metrics / "validation.tsv").write_text("step\tnats_per_image\n10\t8.0\n20\t10.0\n")
    (train, held), told = likelihoods("arm", 0, tmp_path / "runs", tmp_path / "long")
    assert train.y == [3.0, 1.5] and held.y == [2.0, 2.5] and train.dashed
    assert told == {"train": 1.5, "validation": 2.5, "gap": 1.0, "best_validation_at": 10, "num_kept": 4}

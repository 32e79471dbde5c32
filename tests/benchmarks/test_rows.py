"""What rows are measured against does the same work, and what floors count is what the models do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floors import Machine, decoding_floor, decoding_weights
from benchmarks.literal_sampling import sample_by_recomputation, seconds_by_recomputation
from benchmarks.row_03_training_gpu import random_batch, training_flops
from benchmarks.row_11_fixed_costs import packages_of
from benchmarks.tokens_made import write_random_tokens
from models.sampling import SamplingSettings, Truncation, sample
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from shards.tokens import TokenFacts
from shards.tokens.blocks import unpack_positions

SETTINGS = SamplingSettings(1.0, Truncation(0.9, 7, 0.9), Truncation(1.1, 0, 0.95))
CONFIG = StackformerConfig(NetworkConfig(16, 2, 2, 1, 0.0, "ascending"), 12, 16, 7, "class", 1, 3)
TEXT = replace(CONFIG, condition="text", condition_length=3)


def model_of(config: StackformerConfig) -> Stackformer:
    torch.manual_seed(0)
    model = Stackformer(config).double().eval()
    for weight in model.parameters():
        weight.data.add_(0.3 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("config", [CONFIG, TEXT, replace(CONFIG, num_kept=1)], ids=["class", "text", "one"])
def test_recomputation_draws_what_the_sampler_draws(config: StackformerConfig) -> None:
    model = model_of(config)
    condition = torch.arange(4 * config.condition_length).reshape(4, -1) % 3
    got = sample_by_recomputation(model, condition, range(4), SETTINGS)
    expected = sample(model, condition, range(4), SETTINGS)
    assert torch.equal(got.codes_BN, expected.codes_BN)
    assert torch.equal(got.positions_BN, expected.positions_BN)


def test_recomputation_is_timed_at_knots_and_summed_over_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 0.0, 3.0, 0.0, 5.0])  # 1 s at n = 0, 3 s at 3, 5 s at 6
    monkeypatch.setattr("benchmarks.literal_sampling.time.perf_counter", lambda: next(clock))
    condition = torch.zeros(2, 1, dtype=torch.int64)
    total = seconds_by_recomputation(model_of(CONFIG), condition, SETTINGS, (0, 3, 6))
    assert total == pytest.approx(np.interp(range(7), [0, 3, 6], [1, 3, 5]).sum())


def test_decoding_reads_the_weights_of_linear_maps_and_heads() -> None:
    maps = [module for module in model_of(CONFIG).modules() if isinstance(module, torch.nn.Linear)]
    assert decoding_weights(CONFIG) == sum(each.weight.numel() for each in maps)


def test_the_floor_is_bytes_where_memory_is_slow_and_arithmetic_where_it_is_not() -> None:
    weights = decoding_weights(CONFIG)
    keys_and_values = sum(2 * 3 * 16 * (step + 1) for step in range(7))
    slow_memory, slow_sums = Machine(1.0, 1e30), Machine(1e30, 1.0)
    assert decoding_floor(CONFIG, 1, 4, slow_memory) == pytest.approx(4 * (7 * weights + keys_and_values))
    assert decoding_floor(CONFIG, 1, 4, slow_sums) == pytest.approx(2 * (7 * weights + keys_and_values))


@pytest.mark.parametrize("config", [CONFIG, TEXT], ids=["class", "text"])
def test_training_flops_are_what_torch_counts_but_for_the_masked_half_of_attention(
    config: StackformerConfig,
) -> None:
    model, batch = model_of(config), random_batch(config, 5)
    condition = torch.zeros(5, config.condition_length, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch.codes_BN, batch.positions_BN, condition)
    width, network = config.network.width, config.network
    hidden = 5 * 2 * width * (network.code_layers * config.length**2 + network.position_layers * 7**2)
    assert training_flops(config, 5) / 3 == pytest.approx(counter.get_total_flops() - hidden, rel=1e-9)


def test_random_tokens_are_a_data_set_that_passes_every_check(tmp_path: Path) -> None:
    facts = TokenFacts((4, 3), 9, 5, ("a", "b"), None, None, {"train": 50, "val": 7}, "adaptive", "0" * 64)
    tokens = write_random_tokens(tmp_path / "tokens", facts, 8, 20)
    split = tokens.load("train")
    assert split.shard_sizes == (20, 20, 10) and len(tokens.load("val").keys) == 7
    positions = unpack_positions(split.kept, 12, 5)
    assert (np.diff(positions, axis=1) > 0).all() and len(np.unique(positions)) == 12


def test_a_helps_time_is_beyond_the_packages_of_others_that_it_imports() -> None:
    packages = packages_of("shard")
    assert {"numpy", "pydantic", "yaml"} <= set(packages)
    assert not {"torch", "shards", "stages", "workspace"} & set(packages)

"""What is reckoned before the work is what the work allocates."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from models.mqvae import MQVAE, MQVAEConfig
from models.mqvae.quantizer import QuantizerConfig
from models.sampling import Sampler, SamplingSettings, Truncation
from models.sampling.editing import Editor, Staying
from models.sampling.memory import LiveBytes, Need, decoding_need, editing_need, sampling_need
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from models.stackformer.transformer import BlockKind

SHARP = Truncation(1.0, 0, 0.9)
NETWORK = NetworkConfig(64, 4, 3, 2, 0.0, "ascending")
CONFIG = StackformerConfig(NETWORK, 256, 256, 192, "class", 1, 5)
QUANTIZER = QuantizerConfig("gradient", "straight_through", 0.99, 0.25, 0, 0.0)
DECODER = MQVAEConfig(
    64, 1, 32, (1, 1, 2), 1, True, 32, 64, "adaptive", 0.25, 32, "dcsa_update", 2, QUANTIZER
)


def allocated(work: Callable[[], object]) -> int:
    """The most bytes that torch's CPU allocator held at once during the work, beyond those before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = work()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    del kept
    return most


@pytest.mark.parametrize(
    ("batch", "guidance", "block"), [(3, 1.0, "gpt"), (16, 2.0, "gpt"), (16, 1.0, "modern")]
)
def test_a_sampler_allocates_what_was_reckoned(batch: int, guidance: float, block: BlockKind) -> None:
    """In float64, for which no weights are packed."""
    settings = SamplingSettings(guidance, SHARP, SHARP)
    config = replace(CONFIG, network=replace(NETWORK, block=block))
    model = Stackformer(config).double().eval()
    weights = sum(weight.nbytes for weight in model.parameters())

    def work() -> Sampler:
        sampler = Sampler(model, batch, settings, bucket=64)
        sampler.start(torch.zeros(batch, 1, dtype=torch.int64), range(batch))
        for step in (1, 2):
            sampler.go_on(step)
        return sampler

    need = sampling_need(config, settings, torch.float64)
    assert need.of(batch) - weights == pytest.approx(allocated(work), rel=0.1)


@pytest.mark.parametrize(("rows", "guidance"), [(2, 1.0), (3, 2.0)])
def test_an_edit_allocates_no_more_than_was_reckoned(rows: int, guidance: float) -> None:
    """Most of it for the position of each code that may come; masked attention is reckoned with its whole matrix."""
    settings = SamplingSettings(guidance, SHARP, SHARP)
    model = Stackformer(replace(CONFIG, num_kept=12)).double().eval()
    weights = sum(weight.nbytes for weight in model.parameters())
    free_L = torch.ones(256, dtype=torch.bool)
    free_L[255] = False
    staying = Staying(torch.tensor([3]), torch.tensor([255]), free_L)
    editor, condition = Editor(model, staying, settings), torch.zeros(rows, 1, dtype=torch.int64)
    seeds = [[seed] for seed in range(rows)]
    editor(condition, seeds)
    need = editing_need(model.config, settings, torch.float64).of(rows) - weights
    assert 0.4 * need <= allocated(lambda: editor(condition, seeds)) <= 1.05 * need
    assert need > 2 * (sampling_need(model.config, settings, torch.float64).of(rows) - weights)


@pytest.mark.parametrize(
    "config", [DECODER, replace(DECODER, mask="none", mask_ratio=0.0, demask="none")], ids=["masked", "plain"]
)
def test_a_decoder_allocates_what_was_reckoned(config: MQVAEConfig) -> None:
    model, batch = MQVAE(config).eval(), 4
    codes = torch.randint(config.num_codes, (batch, config.num_kept))
    positions = torch.arange(config.num_kept).expand(batch, -1)
    model.decode_tokens(codes, positions)  # what libraries keep from the first call is not the batch's
    need = decoding_need(config)
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    assert need.of(batch) - weights == pytest.approx(
        allocated(lambda: model.decode_tokens(codes, positions)), rel=0.1
    )


def test_bf16_keys_and_values_take_half_and_guidance_takes_twice_as_much() -> None:
    plain, guided = SamplingSettings(1.0, SHARP, SHARP), SamplingSettings(2.0, SHARP, SHARP)
    paper = replace(CONFIG, network=replace(NETWORK, width=128), num_positions=1024, num_kept=768)
    full = sampling_need(paper, plain, torch.float32)
    half, twice = (
        sampling_need(paper, plain, torch.float32, torch.bfloat16),
        sampling_need(paper, guided, torch.float32),
    )
    values = 2 * 128 * (3 + 2) * 768 * 4  # keys and values: width, layers, places, bytes
    assert full.each == pytest.approx(values, rel=0.1)
    assert full.each - half.each == pytest.approx(values / 2, rel=0.05)
    assert twice.each - full.each == pytest.approx(values, rel=0.05)
    assert half.fixed == pytest.approx(full.fixed, rel=0.01)


def test_what_is_alive_is_counted_once_and_no_longer_than_it_lives() -> None:
    given = torch.zeros(100)
    with LiveBytes() as live:
        view = given[:50].view(5, 10)  # nobody made it here
        first = view + 1
        second = first.reshape(50)  # the same bytes
        assert live.now == 200
        third = second.double()
        assert (live.now, live.peak) == (600, 600)
        del third
        assert (live.now, live.peak) == (200, 600)


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    need = Need(fixed=1000, each=300)
    for available in (0, 1000, 1299, 1300, 5000):
        most = need.most(available)
        assert most == 0 or need.of(most) <= available
        assert need.of(most + 1) > available

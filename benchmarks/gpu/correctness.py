"""Phase b: whether results on the device are right: against the CPU, and each fast way against the plain one.

Distances are ‖a - b‖ / ‖b‖. fp32 is compared without TF32.

Shapes: B images, N kept codes, C = N_c conditions.
"""

import os
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu import drawing, stepping
from benchmarks.gpu.judging import SHARP, distance, judged, mqvae_config, stackformer_config
from benchmarks.gpu.phase import Item, Place
from benchmarks.gpu.resuming import resumed
from benchmarks.gpu.timing import forget_peak, wait
from benchmarks.mqvae_made import FULL, TRAINING, training_module_of
from benchmarks.row_02_sampling_gpu import CONFIG
from benchmarks.row_03_training_gpu import TRAINING as STACKFORMER_TRAINING
from benchmarks.row_03_training_gpu import random_batch
from models.base.precision import allow_tf32, autocast
from models.mqvae import MQVAE, MQVAEConfig
from models.sampling import Sampler
from models.sampling.memory import WORKSPACE, decoding_need, sampling_need
from models.stackformer import Stackformer, StackformerConfig
from settings.mqvae import MQVAESettings
from settings.stackformer import StackformerSettings
from training.mqvae.module import ImageBatch
from training.stackformer.module import StackformerTrainingModule

CPU = torch.device("cpu")
PLAIN = TRAINING.replaced(channels_last=False)
PLAIN_STACKFORMER = STACKFORMER_TRAINING.replaced(precision="fp32", compile=False)
BF16_TERMS = {"l1": 1e-2, "l2": 1e-2, "commitment": 1e-2, "discriminator": 1e-2, "adaptive_weight": 0.5}
"""How far a loss term may lie from fp32's, relatively. The adaptive weight is a ratio of gradients, of which the discriminator's
is small at its random start and rounded on its whole way back: a CPU has 0.30 in fp32 and 0.24 in bf16 there."""
Step = tuple[dict[str, float], dict[str, Tensor]]
"""A training step's loss terms and its gradients by name, float64 on the CPU."""


def items(place: Place) -> list[Item]:
    """The cheap ones first."""
    allow_tf32(convolutions=False, products=False)
    # as `deterministic` does before cuBLAS's first call
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return [
        Item("mqvae_fp32_as_on_the_cpu", mqvae_fp32, 30),
        Item("stackformer_fp32_as_on_the_cpu", stackformer_fp32, 30),
        Item("graphs_draw_what_eager_draws", drawing.graphs, 90),
        Item("fused_kernels_as_single_operations", drawing.fused, 60),
        Item("tokenise_and_decode", tokens, 20),
        Item("bf16_near_fp32", bf16, 30),
        Item("channels_last", channels_last, 20),
        Item("micro_batches", micro_batches, 20),
        Item("memory_as_reckoned", memory, 30),
        Item("optimisers_as_on_the_cpu", lambda place: stepping.as_on_the_cpu(place, configs(place)), 120),
        Item("bad_gradients_move_nothing", lambda place: stepping.bad_gradients(place, configs(place)), 30),
        Item("no_waiting_in_a_step", lambda place: stepping.waiting(place, configs(place)), 60),
        Item("deterministic_is_repeatable", lambda place: stepping.repeatable(place, configs(place)), 60),
        Item("muon_by_precision", stepping.muon, 30),
        Item("resume_is_uninterrupted", resumed, 30),
        Item("compiled_mqvae", compiled_mqvae, 180),
        Item("compiled_stackformer", compiled_stackformer, 90),
    ]


def configs(place: Place) -> tuple[MQVAEConfig, StackformerConfig]:
    """Settings for items that train a few steps, small enough for seconds on a CPU."""
    smaller = replace(mqvae_config(place), channels=32) if not place.tiny else mqvae_config(place)
    return smaller, stackformer_config(place)


def gradients_of(module: nn.Module) -> dict[str, Tensor]:
    """By name, those that there are."""
    return {
        name: weight.grad.detach().double().cpu()
        for name, weight in module.named_parameters()
        if weight.grad is not None
    }


def mqvae_step(place: Place, device: torch.device, training: MQVAESettings, parts: int = 1) -> Step:
    """Terms and gradients of a step on four images, in this many micro-batches; images are keyed by place, not by device."""
    config = mqvae_config(place)
    training_module = training_module_of(config, training, 4, device)
    images = (
        torch.rand(4, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(1)) * 2
        - 1
    )
    sums: dict[str, float] = {}
    for number, part in enumerate(images.chunk(parts)):
        batch = ImageBatch(
            part, number * len(part), list(range(number * len(part), (number + 1) * len(part)))
        )
        for name, value in training_module.micro_step(batch, 0, 1 / parts).items():
            sums[name] = sums.get(name, 0.0) + float(value) / parts
    return sums, gradients_of(training_module.model)


def stackformer_step(
    place: Place, device: torch.device, training: StackformerSettings, parts: int = 1
) -> Step:
    """The same of a Stackformer."""
    config = stackformer_config(place)
    torch.manual_seed(0)
    model, batch = Stackformer(config), random_batch(config, 4)
    training_module = StackformerTrainingModule(model, training.replaced(micro_batch=4), batch, device)
    sums: dict[str, float] = {}
    for part in batch.split(4 // parts):
        for name, value in training_module.micro_step(part, 0, 1 / parts).items():
            sums[name] = sums.get(name, 0.0) + float(value) / parts
    return sums, gradients_of(training_module.model)


def apart(one: Step, other: Step) -> dict[str, float]:
    """How far two steps lie apart: the loss, all gradients together, and the cosine between them."""
    (terms, gradients), (other_terms, other_gradients) = one, other
    assert gradients.keys() == other_gradients.keys(), gradients.keys() ^ other_gradients.keys()
    flat, reference = (
        torch.cat([found[name].flatten() for name in sorted(gradients)])
        for found in (gradients, other_gradients)
    )
    cosine = torch.nn.functional.cosine_similarity(flat, reference, dim=0)
    loss = abs(terms["loss"] - other_terms["loss"]) / abs(other_terms["loss"])
    return {"loss": loss, "gradients": distance(flat, reference), "one_minus_cosine": 1 - float(cosine)}


def mqvae_fp32(place: Place) -> dict[str, Any]:
    """A nearest code or a kept cell may flip where two are equally near, so gradients have more room than the loss."""
    device = torch.device(place.device)
    found = apart(mqvae_step(place, device, PLAIN), mqvae_step(place, CPU, PLAIN))
    return judged(found, {"loss": 1e-3, "gradients": 2e-2})


def stackformer_fp32(place: Place) -> dict[str, Any]:
    """Nothing is chosen in it: both are close."""
    device = torch.device(place.device)
    steps = (stackformer_step(place, where, PLAIN_STACKFORMER) for where in (device, CPU))
    return judged(apart(*steps), {"loss": 1e-4, "gradients": 1e-3})


def bf16(place: Place) -> dict[str, Any]:
    """Autocast against fp32, both on the device."""
    device = torch.device(place.device)
    low, high = (mqvae_step(place, device, PLAIN.replaced(precision=kind)) for kind in ("bf16", "fp32"))
    found = {f"mqvae_{name}": abs(low[0][name] / high[0][name] - 1) for name in BF16_TERMS}
    found |= {"mqvae_one_minus_cosine": apart(low, high)["one_minus_cosine"]}
    plain = PLAIN_STACKFORMER
    stackformer = apart(
        stackformer_step(place, device, plain.replaced(precision="bf16")),
        stackformer_step(place, device, plain),
    )
    found |= {f"stackformer_{name}": value for name, value in stackformer.items()}
    bounds = {f"mqvae_{name}": bound for name, bound in BF16_TERMS.items()}
    bounds |= {"mqvae_one_minus_cosine": 3e-2, "stackformer_loss": 1e-2, "stackformer_one_minus_cosine": 1e-2}
    return judged(found, bounds)


def channels_last(place: Place) -> dict[str, Any]:
    """The memory format changes nothing but the order of sums."""
    device = torch.device(place.device)
    found = apart(mqvae_step(place, device, TRAINING), mqvae_step(place, device, PLAIN))
    return judged(found, {"loss": 1e-3, "gradients": 2e-2})


def micro_batches(place: Place) -> dict[str, Any]:
    """A step in two parts is the step; the discriminator's adaptive weight belongs to a micro-batch, so there is none here."""
    device = torch.device(place.device)
    alone = PLAIN.replaced(loss=replace(PLAIN.loss, adversarial=0.0))
    mqvae = apart(mqvae_step(place, device, alone, 2), mqvae_step(place, device, alone))
    plain = PLAIN_STACKFORMER
    stackformer = apart(stackformer_step(place, device, plain, 2), stackformer_step(place, device, plain))
    found = {"mqvae_gradients": mqvae["gradients"], "stackformer_gradients": stackformer["gradients"]}
    return judged(found, {"mqvae_gradients": 2e-2, "stackformer_gradients": 1e-3})


def compiled_mqvae(place: Place) -> dict[str, Any]:
    """torch.compile changes nothing but the order of sums."""
    device = torch.device(place.device)
    found = apart(
        mqvae_step(place, device, PLAIN.replaced(compile=not place.tiny)), mqvae_step(place, device, PLAIN)
    )
    return judged(found, {"loss": 1e-3, "gradients": 2e-2})


def compiled_stackformer(place: Place) -> dict[str, Any]:
    """The same of a Stackformer."""
    device, plain = torch.device(place.device), PLAIN_STACKFORMER
    fast = plain.replaced(compile=not place.tiny)
    return judged(
        apart(stackformer_step(place, device, fast), stackformer_step(place, device, plain)),
        {"loss": 1e-4, "gradients": 1e-3},
    )


def tokens(place: Place) -> dict[str, Any]:
    """Tokens decoded give the reconstruction; the device finds the CPU's tokens."""
    device, config = torch.device(place.device), mqvae_config(place)
    torch.manual_seed(0)
    model = MQVAE(config).eval()
    images = torch.rand(8, 3, config.image_size, config.image_size) * 2 - 1
    here = model.tokenize(images)
    model = model.to(device)
    there = model.tokenize(images.to(device))
    with torch.no_grad():
        whole = model(images.to(device)).reconstruction_BCHW
    back = model.decode_tokens(there.codes_BN, there.positions_BN)
    equal = (here.codes_BN == there.codes_BN.cpu()) & (here.positions_BN == there.positions_BN.cpu())
    found = {"decoded": distance(back, whole), "tokens_unlike_the_cpus": 1 - float(equal.double().mean())}
    return judged(found, {"decoded": 1e-4, "tokens_unlike_the_cpus": 0.02})


@torch.no_grad()
def memory(place: Place) -> dict[str, Any]:
    """Compare the memory estimates for sampling and decoding with the GPU allocator's peak."""
    device, batch = torch.device(place.device), 16
    drawn, decoded = CONFIG, FULL  # so large that libraries' workspaces are small beside them
    if place.tiny:
        drawn, decoded = stackformer_config(place), mqvae_config(place)
    reckoned = {
        "sampling": sampling_need(drawn, SHARP, torch.bfloat16).of(batch),
        "decoding": decoding_need(decoded, WORKSPACE["fp32"]).of(batch),
        "autocast": decoding_need(decoded, WORKSPACE["bf16"]).of(batch),
    }
    if place.device != "cuda":
        return {f"{name}_bytes": size for name, size in reckoned.items()}
    before = torch.cuda.memory_allocated()
    forget_peak(device)
    with device:
        model = Stackformer(drawn).eval().to(torch.bfloat16)
    forget_peak(device)
    sampler = Sampler(model, batch, SHARP)
    sampler.start(torch.zeros(batch, drawn.condition_length, dtype=torch.int64), range(batch))
    sampler.go_on(1)
    wait(device)
    used = {"sampling": torch.cuda.max_memory_allocated() - before}
    del model, sampler
    for name, tf32, precision in (
        ("decoding", True, "fp32"),
        ("exact", False, "fp32"),
        ("autocast", True, "bf16"),
    ):
        used[name] = decoding_bytes(decoded, batch, device, tf32, precision)
    found = {name: abs(reckoned[name] / used[name] - 1) for name in reckoned}
    return judged(found, dict.fromkeys(found, 0.1)) | {"reckoned": reckoned, "allocated": used}


def decoding_bytes(config: MQVAEConfig, batch: int, device: torch.device, tf32: bool, precision: Any) -> int:
    """The allocator's peak while a batch is decoded, including cuDNN's workspace: TF32, torch's default,
    needs less of that than exact products."""
    before = torch.cuda.memory_allocated()
    forget_peak(device)
    decoder = MQVAE(config).eval().to(device)
    positions = torch.arange(config.num_kept, device=device).expand(batch, -1)
    allow_tf32(convolutions=tf32, products=False)
    with autocast(precision, device):
        decoder.decode_tokens(torch.zeros_like(positions), positions)
    wait(device)
    allow_tf32(convolutions=False, products=False)
    return torch.cuda.max_memory_allocated() - before

"""Our Adam and AdamW are PyTorch's, bit for bit, and start without its compiler."""

import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from workspace.exact import optimizers

KINDS = {"Adam": {}, "AdamW": {"weight_decay": 0.1}}


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (7,))]


def stepped(optimizer: Optimizer, parameters: list[nn.Parameter], steps: range) -> list[Tensor]:
    for step in steps:
        optimizer.zero_grad()
        sum(((step + 1) * weight.sin()).sum() for weight in parameters).backward()
        optimizer.step()
    return [weight.detach().clone() for weight in parameters]


@pytest.mark.parametrize("kind", list(KINDS))
def test_steps_are_those_of_pytorch_to_the_bit_through_a_saved_state(kind: str) -> None:
    ours, theirs = weights(), weights()
    optimizer = getattr(optimizers, kind)(ours, lr=0.01, betas=(0.8, 0.9), **KINDS[kind])
    original = getattr(torch.optim, kind)(theirs, lr=0.01, betas=(0.8, 0.9), **KINDS[kind])
    torch.testing.assert_close(
        stepped(optimizer, ours, range(3)), stepped(original, theirs, range(3)), rtol=0, atol=0
    )
    state = original.state_dict()
    torch.testing.assert_close(optimizer.state_dict(), state, rtol=0, atol=0)
    again = getattr(optimizers, kind)(ours, lr=0.5, **KINDS[kind])
    again.load_state_dict(deepcopy(state))  # it takes the tensors themselves
    torch.testing.assert_close(
        stepped(again, ours, range(3, 6)), stepped(original, theirs, range(3, 6)), rtol=0, atol=0
    )


def test_every_weight_without_a_gradient_stays_and_grad_mode_is_as_before() -> None:
    [first, second] = weights()
    before = second.detach().clone()
    optimizer = optimizers.AdamW([first, second], lr=0.1, weight_decay=0.1)
    stepped(optimizer, [first], range(2))
    assert torch.equal(second, before) and torch.is_grad_enabled()


STEP = """
import sys
import torch
from settings.training import MuonConfig
from training.loop.optimizers import Muon
from workspace.exact.optimizers import Adam, AdamW
config = MuonConfig(learning_rate=0.1, momentum=0.9, weight_decay=0.1, iterations=5)
weight = torch.nn.Parameter(torch.ones(4, 4))
for optimizer in (Adam([weight]), AdamW([weight]), Muon([weight], config)):
    weight.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
schedule = torch.optim.lr_scheduler.OneCycleLR(Adam([weight]), 0.1, total_steps=3)
print("torch._dynamo" in sys.modules)
"""


def test_an_optimiser_that_works_has_not_imported_the_compiler() -> None:
    said = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n", said.stdout + said.stderr

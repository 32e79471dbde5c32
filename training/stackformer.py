"""One step of Stackformer's training: the likelihood of codes and positions (paper section 3.3, Eq. 14).

Shapes: B images of a micro-batch, N kept codes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from models.stackformer import Stackformer, StackformerLoss
from training.ema import Ema
from training.optimizers import MuonConfig, OptimizerKind, build_optimizers, set_learning_rates
from training.precision import Precision, autocast, kernels, weight_dtype
from training.schedules import learning_rate
from training.tokens import TokenBatch
from training.watch import Admit, gradient_norm, step_if, unwatched


@dataclass(frozen=True)
class StackformerTraining:
    """How a Stackformer is trained; see params.yaml for what each is in the demo.

    Attributes:
        steps: length of the run, for the schedule.
        learning_rate, warmup_steps, final_rate: peak, warm-up, and the share of the peak at the end.
        beta1, beta2: of AdamW.
        weight_decay: of the linear maps' weights; norms, biases and embeddings have none.
        clip: highest gradient norm; 0 does not clip.
        ema_decay: of the published weights.
        precision: fp32, tf32, bf16 (autocast) or float64.
        compile: run the model through torch.compile.
        optimizer: adamw for all weights, or muon for the matrices of the blocks and AdamW for the rest.
        muon: its rates.
    """

    steps: int
    learning_rate: float
    warmup_steps: int
    final_rate: float
    beta1: float
    beta2: float
    weight_decay: float
    clip: float
    ema_decay: float
    precision: Precision
    compile: bool
    optimizer: OptimizerKind = "adamw"
    muon: MuonConfig = field(default_factory=MuonConfig)


def parameter_groups(
    model: nn.Module, weight_decay: float, weights: Sequence[nn.Parameter] | None = None
) -> list[dict[str, Any]]:
    """Two groups for AdamW: the weights of linear maps, which decay, and all else, which does not; None takes all weights."""
    decays = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    weights = list(model.parameters()) if weights is None else weights
    return [
        {"params": [weight for weight in weights if id(weight) in decays], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if id(weight) not in decays], "weight_decay": 0.0},
    ]


class StackformerTrainee:
    """A Stackformer in training, with its optimiser and EMA (a `training.loop.Trainee`).

    Args:
        model: to be trained; moved to `device` and to the training's precision.
        training: how.
        held_out: tokens to validate on.
        micro_batch: images of a validation pass.
        device: where to compute.
    """

    def __init__(
        self,
        model: Stackformer,
        training: StackformerTraining,
        held_out: TokenBatch,
        micro_batch: int,
        device: torch.device,
    ) -> None:
        self.training, self.held_out, self.micro_batch, self.device = training, held_out, micro_batch, device
        self.model = model.to(device, weight_dtype(training.precision)).train()
        self.run: Callable[..., Any] = torch.compile(self.model) if training.compile else self.model
        self.ema = Ema(self.model, training.ema_decay)
        self.modules: dict[str, nn.Module] = {"model": self.model, "ema": self.ema.model}
        in_blocks = {
            id(module.weight)
            for name, module in self.model.named_modules()
            if ".blocks." in name and isinstance(module, nn.Linear)
        }
        self.optimizers: dict[str, Optimizer] = build_optimizers(
            training.optimizer,
            self._adamw,
            training.muon,
            self.model.parameters(),
            lambda weight: id(weight) in in_blocks,
        )

    def _adamw(self, weights: list[nn.Parameter]) -> AdamW:
        plan = self.training
        groups = parameter_groups(self.model, plan.weight_decay, weights)
        return AdamW(groups, lr=plan.learning_rate, betas=(plan.beta1, plan.beta2), **kernels(self.device))

    def _loss(self, model: Callable[..., Any], batch: TokenBatch) -> StackformerLoss:
        tokens = batch.to(self.device)
        with autocast(self.training.precision, self.device):
            output = model(tokens.codes_BN, tokens.positions_BN, tokens.condition_BC)
            return self.model.loss(output, tokens.codes_BN, tokens.positions_BN)

    def micro_step(self, batch: TokenBatch, step: int, share: float) -> dict[str, Tensor]:
        """Forward and backward of one micro-batch, in nats a token; see `training.loop.Trainee`."""
        loss = self._loss(self.run, batch)
        torch.autograd.backward(share * loss.total)
        return {"loss": loss.total.detach(), "code": loss.code.detach(), "position": loss.position.detach()}

    def finish_step(
        self, step: int, reduce: Callable[[Tensor], Tensor], admit: Admit = unwatched
    ) -> Mapping[str, Tensor | float]:
        """Clip, optimiser step, EMA; see `training.loop.Trainee`."""
        plan = self.training
        rate = learning_rate(step, plan.steps, plan.learning_rate, plan.warmup_steps, plan.final_rate)
        set_learning_rates(self.optimizers, rate, rate / plan.learning_rate, plan.muon)
        norm = gradient_norm(*self.optimizers.values())
        fine = admit({"the gradient's norm": norm})
        nn.utils.clip_grads_with_norm_(self.model.parameters(), plan.clip or float("inf"), norm)
        for optimizer in self.optimizers.values():
            step_if(optimizer, fine)
        self.ema.update(step)
        return {"gradient_norm": norm, "learning_rate": rate}

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:
        """-log p of held-out tokens under the EMA weights, nats an image: codes, positions, both."""
        code, position = 0.0, 0.0
        for batch in self.held_out.split(self.micro_batch):
            loss = self._loss(self.ema.model, batch)
            code += float(loss.code_BN.double().sum())
            position += float(loss.position_BN.double().sum())
        images = len(self.held_out)
        return {
            "code_nats_per_image": code / images,
            "position_nats_per_image": position / images,
            "nats_per_image": (code + position) / images,
        }

"""The Stackformer's training step: the likelihood of codes and positions (paper section 3.3, Eq. 14).

Shapes: B images of a micro-batch, N kept codes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from models.base.precision import autocast, kernels, weight_dtype
from models.stackformer import Stackformer, StackformerLoss
from settings.stackformer import StackformerSettings
from training.loop.ema import Ema
from training.loop.optimizers import build_optimizers, set_learning_rates
from training.loop.parallel import replicated, split
from training.loop.watch import Admit, gradient_norm, step_if, unscale, unwatched, update_scale
from training.stackformer.batches import TokenBatch
from workspace.exact.optimizers import AdamW


def parameter_groups(
    model: nn.Module, weight_decay: float, weights: Sequence[nn.Parameter] | None = None
) -> list[dict[str, Any]]:
    """Two groups for AdamW: weights of linear layers, with decay, and the rest, without; None takes all weights."""
    decays = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    weights = list(model.parameters()) if weights is None else weights
    return [
        {"params": [weight for weight in weights if id(weight) in decays], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if id(weight) not in decays], "weight_decay": 0.0},
    ]


class StackformerTrainingModule:
    """A Stackformer in training, with its optimiser and EMA (a `training.loop.train.TrainingModule`).

    Args:
        model: the model to train; moved to `device` and to the training's precision.
        settings: the training's settings.
        held_out: validation tokens.
        device: where to compute.
    """

    def __init__(
        self,
        model: Stackformer,
        settings: StackformerSettings,
        held_out: TokenBatch,
        device: torch.device,
    ) -> None:
        self.settings, self.held_out, self.device = settings, held_out, device
        self.model = model.to(device, weight_dtype(settings.precision)).train()
        self.run: Callable[..., Any] = torch.compile(self.model) if settings.compile else self.model
        self.parallel: Sequence[nn.Module] = []
        self.scaler = GradScaler(device.type, enabled=settings.precision == "fp16")
        self.model.checkpoint_activations(settings.activation_checkpointing)
        self.ema = Ema(self.model, settings.ema_decay)
        self.modules: dict[str, nn.Module] = {"model": self.model, "ema": self.ema.model}
        self.optimizers = self._optimizers()

    def connect(self, size: int) -> None:
        """See `training.loop.train.TrainingModule`."""
        if size == 1:
            return
        if self.settings.parallel == "fsdp":
            for model in (self.model, self.ema.model):
                assert isinstance(model, Stackformer)
                split(model, model.blocks(), self.device, size)
            self.ema.pair()
            self.optimizers = self._optimizers()
            return
        replica = replicated(self.model)
        self.run, self.parallel = torch.compile(replica) if self.settings.compile else replica, [replica]

    def _optimizers(self) -> dict[str, Optimizer]:
        in_blocks = {
            id(module.weight)
            for name, module in self.model.named_modules()
            if ".blocks." in name and isinstance(module, nn.Linear)
        }
        return build_optimizers(
            self.settings, self._adamw, self.model.parameters(), lambda weight: id(weight) in in_blocks
        )

    def _adamw(self, weights: list[nn.Parameter]) -> AdamW:
        given = self.settings
        groups = parameter_groups(self.model, given.weight_decay, weights)
        return AdamW(groups, lr=given.learning_rate, betas=(given.beta1, given.beta2), **kernels(self.device))

    def _loss(self, model: Callable[..., Any], batch: TokenBatch) -> StackformerLoss:
        tokens = batch.to(self.device)
        with autocast(self.settings.precision, self.device):
            output = model(tokens.codes_BN, tokens.positions_BN, tokens.condition_BC)
            return self.model.loss(output, tokens.codes_BN, tokens.positions_BN)

    def micro_step(self, batch: TokenBatch, step: int, share: float) -> dict[str, Tensor]:
        """Forward and backward of one micro-batch, in nats per token; see `training.loop.train.TrainingModule`."""
        loss = self._loss(self.run, batch)
        torch.autograd.backward(self.scaler.scale(share * loss.total))
        return {"loss": loss.total.detach(), "code": loss.code.detach(), "position": loss.position.detach()}

    def finish_step(
        self, step: int, reduce: Callable[[Tensor], Tensor], admit: Admit = unwatched
    ) -> Mapping[str, Tensor | float]:
        """Clip, optimiser step, EMA; see `training.loop.train.TrainingModule`."""
        rate = set_learning_rates(self.optimizers, self.settings, step)
        scale = unscale(self.scaler, self.optimizers.values())
        norm = gradient_norm(*self.optimizers.values())
        fine = admit({"the gradient's norm": norm})
        nn.utils.clip_grads_with_norm_(
            self.model.parameters(), self.settings.max_grad_norm or float("inf"), norm
        )
        for optimizer in self.optimizers.values():
            # not `if fine:`, which would make the host wait for the GPU in every step
            step_if(optimizer, fine)
        update_scale(self.scaler, self.optimizers.values())
        self.ema.update(step)
        return {"gradient_norm": norm, "learning_rate": rate, **scale}

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:
        """-log p of held-out tokens under the EMA weights, nats per image: codes, positions, both."""
        code, position = 0.0, 0.0
        for batch in self.held_out.split(self.settings.micro_batch):
            loss = self._loss(self.ema.model, batch)
            code += float(loss.code_BN.double().sum())
            position += float(loss.position_BN.double().sum())
        images = len(self.held_out)
        return {
            "code_nats_per_image": code / images,
            "position_nats_per_image": position / images,
            "nats_per_image": (code + position) / images,
        }

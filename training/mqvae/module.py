"""The MQ-VAE's training step: pixel, perceptual and adversarial losses, commitment, codebook (paper section 3.2).

Shapes: B images of a micro-batch, C = 3, H and W pixels, L cells, N kept, D features, K codes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from models.base.moving import sent
from models.base.precision import autocast, kernels, memory_format, weight_dtype
from models.mqvae import MQVAE, MQVAEOutput
from models.mqvae.losses import adaptive_weight, hinge_discriminator, hinge_generator, ramp
from models.mqvae.masker import random_ranking
from models.mqvae.quantizer import CodebookBatch, Reduce
from models.mqvae.relaxed import gumbel_ranking
from models.mqvae.scorers import ScoreNorm
from settings.mqvae import MQVAESettings
from training.loop.ema import Ema
from training.loop.optimizers import build_optimizers, set_learning_rates
from training.loop.parallel import replicated
from training.loop.schedules import anneal, set_learning_rate
from training.loop.start import Start
from training.loop.watch import (
    Admit,
    finite,
    gradient_norm,
    scale_of,
    step_if,
    unscale,
    unwatched,
    update_scale,
)
from training.mqvae.adversary import Judge, first_discriminator
from training.mqvae.distillation import distillation
from training.mqvae.kept import drawn_counts, draws_of
from training.mqvae.outputs import joined
from training.mqvae.reconstruction import Perceptual, reconstruction_terms
from workspace.exact.optimizers import Adam
from workspace.exact.seeds import step_seed

NOTHING = Start()
CODEBOOK = "quantizer.codebook_KD"
PICTURED = 8
"""Number of held-out images drawn at each validation, whatever the micro-batch."""


@dataclass(frozen=True)
class ImageBatch:
    """A micro-batch.

    Attributes:
        image_BCHW: float32 in [-1, 1].
        first: index of its first image in the global batch.
        seeds: one per sample and epoch, for random rankings, for how many cells are kept where that is drawn, and for views.
    """

    image_BCHW: Tensor
    first: int
    seeds: Sequence[int]


class MQVAETrainingModule:
    """An MQ-VAE in training, with its discriminator, optimisers and EMA (a `training.loop.train.TrainingModule`).

    Args:
        model: the model to train; moved to `device` and to the training's precision.
        settings: the training's settings.
        perceptual: the perceptual distance; required if its weight is not 0.
        held_out: validation images [n, 3, H, W].
        device: where to compute.
        draw: called with (step, images, output) of the first held-out images at each validation, for pictures.
        start: what the model has from elsewhere; a codebook among it is kept.
    """

    def __init__(
        self,
        model: MQVAE,
        settings: MQVAESettings,
        perceptual: Perceptual | None,
        held_out: Tensor,
        device: torch.device,
        draw: Callable[[int, Tensor, MQVAEOutput], None],
        start: Start = NOTHING,
    ) -> None:
        if settings.loss.perceptual and perceptual is None:
            raise ValueError(
                f"the weight of the perceptual loss is {settings.loss.perceptual}, but no perceptual loss was given"
            )
        self.settings, self.perceptual = settings, perceptual
        self.device, self.draw, self.held_out = device, draw, held_out
        self.dtype, self.draws = weight_dtype(settings.precision), draws_of(model.config, settings)
        self.has_codes, self.frozen_codes = CODEBOOK in start.taken, CODEBOOK in start.frozen
        if self.has_codes:
            model.quantizer.keep(settings.global_batch * self.draws * model.config.num_kept)
        self.memory_format = memory_format(settings.channels_last, settings.compile, device)
        self.model = self._place(model)
        self.run: Callable[..., MQVAEOutput] = torch.compile(self.model) if settings.compile else self.model
        self.parallel: Sequence[nn.Module] = []
        self.scaler = GradScaler(device.type, enabled=settings.precision == "fp16")
        self.ema = Ema(self.model, settings.ema_decay)
        self.modules: dict[str, nn.Module] = {"model": self.model, "ema": self.ema.model}
        betas = (settings.beta1, settings.beta2)
        self.optimizers: dict[str, Optimizer] = build_optimizers(
            settings,
            lambda weights: Adam(weights, lr=settings.learning_rate, betas=betas, **kernels(device)),
            self.model.parameters(),
            lambda weight: True,
        )
        if settings.loss.adversarial:
            self.discriminator = self._place(first_discriminator(settings))
            self.modules["discriminator"] = self.discriminator
            self.judge: Callable[..., tuple[Tensor, Tensor]] = Judge(self.discriminator)
            self.optimizers["discriminator"] = Adam(
                self.discriminator.parameters(),
                lr=settings.loss.discriminator_learning_rate,
                betas=betas,
                **kernels(device),
            )
        self._codebook_batches: list[CodebookBatch] = []

    def connect(self, size: int) -> None:
        """See `training.loop.train.TrainingModule`."""
        if size == 1:
            return
        replica = replicated(self.model)
        self.run, self.parallel = torch.compile(replica) if self.settings.compile else replica, [replica]
        if self.settings.loss.adversarial:
            judge = replicated(Judge(self.discriminator))
            self.judge, self.parallel = judge, [replica, judge]

    def _place(self, module: Any) -> Any:
        return module.to(device=self.device, dtype=self.dtype, memory_format=self.memory_format)

    def _images(self, image_BCHW: Tensor) -> Tensor:
        return sent(image_BCHW, self.device).to(self.dtype, memory_format=self.memory_format)

    def _autocast(self) -> torch.autocast:
        return autocast(self.settings.precision, self.device)

    def micro_step(self, batch: ImageBatch, step: int, share: float) -> dict[str, Tensor]:
        """Forward and backward of one micro-batch; see `training.loop.train.TrainingModule`."""
        plan, loss = self.settings.exploration, self.settings.loss
        exploration = plan.noise * anneal(step, plan.anneal_start, plan.anneal_end)
        image_BCHW, bypass = self._images(batch.image_BCHW), step < self.settings.quantize_start
        counts_R = drawn_counts(batch.seeds, self.model.config, self.settings)
        with self._autocast():
            output = self.run(
                image_BCHW,
                self._ranking(batch, exploration),
                exploration,
                bool(plan.noise) and plan.freeze_start is not None and step >= plan.freeze_start,
                bypass,
                None if counts_R is None else sent(counts_R, self.device),
                bool(loss.distillation),
            )
        if self.draws > 1:
            image_BCHW = image_BCHW.repeat_interleave(self.draws, dim=0)
        seeds_R = [seed for seed in batch.seeds for _ in range(self.draws)]
        # take the losses' gradients at the image (a leaf): the generator then needs one backward pass instead of one per loss
        recovered_BCHW = output.reconstruction_BCHW.to(self.dtype)
        leaf_BCHW = recovered_BCHW.detach().requires_grad_()
        reconstruction, terms = reconstruction_terms(loss, self.perceptual, image_BCHW, leaf_BCHW, seeds_R)
        (gradient_BCHW,) = torch.autograd.grad(reconstruction, leaf_BCHW)
        beside = output.commitment  # what has a gradient beside the image's
        if loss.distillation:
            with self._autocast():
                taught = distillation(self.model, image_BCHW, output, batch.seeds, bypass)
            beside = beside + loss.distillation * taught.to(beside.dtype)
            terms["distillation"] = taught.detach()
        total = reconstruction.detach() + beside.detach()
        adversarial_weight = loss.adversarial * ramp(step, loss.discriminator_start, loss.discriminator_ramp)
        if loss.adversarial:
            # zeros before the start, because the curves need the same columns in every row
            terms |= dict.fromkeys(("adversarial", "adaptive_weight", "discriminator"), total.new_zeros(()))
        if adversarial_weight:
            adversarial_BCHW, adversarial_terms = self._adversarial_terms(image_BCHW, leaf_BCHW, share)
            weight = self._adaptive_weight(output, gradient_BCHW, adversarial_BCHW)
            gradient_BCHW = gradient_BCHW + adversarial_weight * weight * adversarial_BCHW
            terms |= adversarial_terms | {"adaptive_weight": weight}
            total = total + adversarial_weight * weight * terms["adversarial"]
        self._backward(recovered_BCHW, share * gradient_BCHW, beside, share)
        self._codebook_batches.append(
            CodebookBatch(
                batch.first * self.draws,
                output.features_BND.detach(),
                output.codes_BN,
                output.kept_BL if self.model.config.kept == "any" else None,
            )
        )
        return (
            {"loss": total} | terms | {"commitment": output.commitment, "mean_score": output.scores_BL.mean()}
        )

    def _ranking(self, batch: ImageBatch, exploration: float) -> Tensor | None:
        config = self.model.config
        if config.mask == "adaptive" and exploration and self.settings.exploration.distribution == "gumbel":
            return sent(gumbel_ranking(batch.seeds, config.num_positions), self.device).to(self.dtype)
        if config.mask == "random" or (config.mask == "adaptive" and exploration):
            return self._noise(batch.seeds)
        return None

    def _noise(self, seeds: Sequence[int]) -> Tensor:
        return sent(random_ranking(seeds, self.model.config.num_positions), self.device).to(self.dtype)

    def _adversarial_terms(
        self, image_BCHW: Tensor, leaf_BCHW: Tensor, share: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Both adversarial losses from one discriminator pass per image, because its weights change only at the step's end.

        Accumulates the discriminator's gradients; returns the generator's gradient at the image, and the loss terms.
        """
        with self._autocast():
            fake, real = (self._ready_to_scale(logits) for logits in self.judge(leaf_BCHW, image_BCHW))
            adversarial, discriminator_loss = hinge_generator(fake), hinge_discriminator(real, fake)
        (gradient_BCHW,) = torch.autograd.grad(self.scaler.scale(adversarial), leaf_BCHW, retain_graph=True)
        if self.scaler.is_enabled():
            gradient_BCHW = gradient_BCHW / scale_of(self.scaler, leaf_BCHW)
        loss = self.scaler.scale(share * discriminator_loss)
        torch.autograd.backward(loss, inputs=list(self.discriminator.parameters()))
        return gradient_BCHW, {
            "adversarial": adversarial.detach().to(self.dtype),
            "discriminator": discriminator_loss.detach(),
        }

    def _ready_to_scale(self, tensor: Tensor) -> Tensor:
        """fp32 where losses are scaled: the largest scale is beyond fp16's range."""
        return tensor.float() if self.scaler.is_enabled() else tensor

    def _adaptive_weight(self, output: MQVAEOutput, rec_BCHW: Tensor, adv_BCHW: Tensor) -> Tensor:
        """The adaptive weight, from both losses' gradients at the image, with a backward pass of the last convolution only."""
        dtype = self._ready_to_scale(output.reconstruction_BCHW).dtype
        rec_at_weight, adv_at_weight = (
            self.model.last_layer_gradient(output.hidden_BCHW, gradient_BCHW.to(dtype))
            for gradient_BCHW in (rec_BCHW, adv_BCHW)
        )
        return adaptive_weight(rec_at_weight, adv_at_weight, self.settings.loss.adaptive_max)

    def _backward(self, recovered_BCHW: Tensor, gradient_BCHW: Tensor, beside: Tensor, share: float) -> None:
        """One backward pass through the generator for all losses, because gradients are linear in the gradient at the image."""
        losses = [(recovered_BCHW, gradient_BCHW), (beside, torch.full_like(beside, share))]
        # with frozen parts either may depend on nothing that learns
        learned = [loss for loss in losses if loss[0].requires_grad]
        if learned:
            roots, gradients = zip(*learned, strict=True)
            torch.autograd.backward(roots, [self.scaler.scale(gradient) for gradient in gradients])

    def finish_step(
        self, step: int, reduce: Reduce, admit: Admit = unwatched
    ) -> Mapping[str, Tensor | float]:
        """Clip, optimiser steps, codebook, EMA; see `training.loop.train.TrainingModule`."""
        rate = set_learning_rates(self.optimizers, self.settings, step)
        # at the generator's share of its peak: at a constant rate it wins
        if "discriminator" in self.optimizers:
            share = rate / self.settings.learning_rate
            set_learning_rate(
                self.optimizers["discriminator"], share * self.settings.loss.discriminator_learning_rate
            )
        scale = unscale(self.scaler, self.optimizers.values())
        of_model = [optimizer for name, optimizer in self.optimizers.items() if name != "discriminator"]
        norms = {"model": gradient_norm(*of_model)}
        if "discriminator" in self.optimizers:
            norms["discriminator"] = gradient_norm(self.optimizers["discriminator"])
        fine, norm = (
            admit({f"the {name}'s gradient norm": value for name, value in norms.items()}),
            norms["model"],
        )
        most = self.settings.max_grad_norm or float("inf")
        nn.utils.clip_grads_with_norm_(self.model.parameters(), most, norm)
        if "discriminator" in norms:
            nn.utils.clip_grads_with_norm_(self.discriminator.parameters(), most, norms["discriminator"])
        for optimizer in self.optimizers.values():
            step_if(optimizer, fine)
        for module in self.model.modules():
            if isinstance(module, ScoreNorm):
                module.settle(reduce, fine)
        numbers = self._update_codebook(step, reduce, admit)
        update_scale(self.scaler, self.optimizers.values())
        self.ema.update(step)
        self._codebook_batches.clear()
        return {"gradient_norm": norm, "learning_rate": rate, **numbers, **scale}

    def _update_codebook(self, step: int, reduce: Reduce, admit: Admit) -> dict[str, Tensor | float]:
        quantizer, config = self.model.quantizer, self.model.config
        rows = self.settings.global_batch * self.draws
        seed = step_seed(self.settings.seed, step)
        new = quantizer.config.kind == "ema" and not self.has_codes
        if new and step + 1 == self.settings.quantize_start:
            # the first codes need finite features, not finite gradients: this step does not come again

            def alone(numbers: Mapping[str, Tensor]) -> Tensor:
                admit(numbers)
                return finite(numbers)

            quantizer.initialise(self._codebook_batches, rows, seed, reduce, alone)
        if step < self.settings.quantize_start:
            return {"codebook_usage": 0.0, "codebook_perplexity": 0.0, "codes_restarted": 0.0}
        every = quantizer.config.restart_every
        restart = bool(every) and (step + 1 - self.settings.quantize_start) % every == 0
        update = quantizer.update(
            self._codebook_batches,
            rows,
            restart,
            seed,
            reduce,
            admit,
            self.frozen_codes,
        )
        share_K = update.count_K / update.count_K.sum()
        entropy = -torch.xlogy(share_K, share_K).sum()
        return {
            "codebook_usage": (update.count_K > 0).sum().double() / config.num_codes,
            "codebook_perplexity": entropy.exp(),
            "codes_restarted": update.restarted,
        }

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:
        """PSNR (dB, of [0, 1] images, mean over images), L1 and codebook usage of the EMA weights on held-out images."""
        model, config = self.ema.model, self.model.config
        codes, errors, absolute, shown = [], [], [], list[tuple[Tensor, MQVAEOutput]]()
        for start in range(0, len(self.held_out), self.settings.micro_batch):
            image_BCHW = self._images(self.held_out[start : start + self.settings.micro_batch])
            seeds = range(start, start + len(image_BCHW))
            with self._autocast():
                output = model(image_BCHW, self._noise(seeds) if config.mask == "random" else None)
            if start < PICTURED:
                shown.append((image_BCHW, output))
            difference = (output.reconstruction_BCHW.clamp(-1, 1) - image_BCHW) / 2
            errors.append(difference.square().mean(dim=(1, 2, 3)).double())
            absolute.append(difference.abs().mean(dim=(1, 2, 3)).double())
            codes.append(output.codes_BN.flatten())
        self.draw(step, torch.cat([image_BCHW for image_BCHW, _ in shown]), joined([out for _, out in shown]))
        used = torch.cat(codes).unique().numel() / config.num_codes
        psnr = -10 * torch.cat(errors).clamp_min(1e-12).log10().mean()
        return {"psnr": float(psnr), "l1": float(torch.cat(absolute).mean()), "codebook_usage": used}

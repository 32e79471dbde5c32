"""Schedules, as pure functions of the step."""

import math

from torch.optim import Optimizer


def learning_rate(step: int, steps: int, peak: float, warmup: int, final: float) -> float:
    """Linear warm-up to `peak`, then a half cosine to `final * peak` at the last step.

    Args:
        step: 0 … steps - 1.
        steps: length of the run.
        peak: highest rate.
        warmup: number of warm-up steps.
        final: final rate as a share of the peak, in [0, 1].
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def anneal(step: int, start: int, end: int) -> float:
    """1 before step `start`, then linear to 0 at step `end`; steps count from 0."""
    if step < start:
        return 1.0
    return max(0.0, (end - step) / (end - start)) if end > start else 0.0

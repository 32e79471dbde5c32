"""Schedules, as pure functions of the step."""

from torch.optim import Optimizer


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def anneal(step: int, start: int, end: int) -> float:
    """1 before step `start`, then linear to 0 at step `end`; steps count from 0."""
    if step < start:
        return 1.0
    return max(0.0, (end - step) / (end - start)) if end > start else 0.0

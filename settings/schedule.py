"""The learning rate's schedule, a pure function of the step, and what another number of steps does to it."""

import math
from collections.abc import Mapping
from typing import Any


def learning_rate(step: int, steps: int, peak: float, warmup: int, final: float) -> float:
    """Linear warm-up to `peak`, then a half cosine to `final * peak` at the last step.

    Args:
        step: 0 … steps - 1.
        steps: length of the run.
        peak: highest rate.
        warmup: steps of the warm-up.
        final: share of the peak at the end, in [0, 1].
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def schedule_change(done: int, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """One line about the change of rate when a run continues under other settings; "" if its rate stays the same.

    Args:
        done: steps that are done.
        before: the settings of a training that they were done under.
        now: those that it continues under.
    """
    names = ("steps", "learning_rate", "warmup_steps", "min_lr_ratio")
    if any(name not in given for name in names for given in (before, now)):
        return ""
    changed = [f"{name} {before[name]:,} → {now[name]:,}" for name in names if before[name] != now[name]]
    if not changed:
        return ""
    if done >= now["steps"]:
        return f"{', '.join(changed)}: all of its {done:,} steps are done, so no step follows"
    old, new = (
        learning_rate(
            min(done, given["steps"]),
            given["steps"],
            given["learning_rate"],
            given["warmup_steps"],
            given["min_lr_ratio"],
        )
        for given in (before, now)
    )
    return (
        f"{', '.join(changed)}: the learning rate is a cosine over all steps, so at step {done:,} it goes from {old:.2g} to "
        f"{new:.2g} and falls to {now['min_lr_ratio'] * now['learning_rate']:.2g} by step {now['steps']:,}; the steps that are "
        "done were taken on the old curve, and what is set in steps (quantize_start, exploration) stays where it was"
    )


def codebook_missed(done: int, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is wrong if a run that continues under other settings would pass the step that makes its codebook; else "".

    An EMA codebook is made of the features of step `quantize_start`; without that step its codes are random numbers.
    """
    name = "quantize_start"
    if name not in before or now["model"]["quantizer"]["kind"] != "ema" or now["init_from"] is not None:
        return ""
    if not now[name] <= done < before[name]:
        return ""
    return (
        f"mqvae.{name} {before[name]:,} → {now[name]:,}: {done:,} steps are done, and the codebook is made at that step; "
        f"expected > {done:,}"
    )

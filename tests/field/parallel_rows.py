"""Rows on trainings by several workers, in fp16, and through steps that are not finite."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.field.table import Field, Row
from tests.training import test_mqvae_training as images
from tests.training import test_stackformer_training as tokens
from tests.training.test_watch import spoiling
from training.loop.train import train
from workspace.errors import UserError
from workspace.settings import Compute

AREA = "several workers, fp16, bad steps"
HERE = Compute(device="cpu", workers=2, threads=1, loader_workers=0, ray_address="local")


def refused(**changes: Any) -> Any:
    """An outcome: what the check of these settings of a Stackformer says."""

    def outcome(field: Field, folder: Path) -> str:
        with pytest.raises(UserError, match="stackformer") as error:
            tokens.TRAINING.replaced(**changes).check("stackformer", HERE)
        return f"refused: {error.value}"

    return outcome


def bad_steps(numbers: tuple[int, ...], limit: int) -> Any:
    """An outcome: how a training of 20 steps ends whose steps (0-based) have an infinite gradient."""

    def outcome(field: Field, folder: Path) -> str:
        plan = images.TRAINING.replaced(max_bad_steps=limit, validate_every=20)
        subject = images.training_module(plan)
        for number in numbers:
            spoiling(subject, number, "model", math.inf)
        try:
            train(subject, images.batches(plan), plan, images.Alone(), images.folder(folder))
        except UserError as error:
            return str(error).split("; lower")[0]
        return f"{len(images.losses(folder, 'loss'))} of 20 rows in the curves, finished"

    return outcome


ROWS: tuple[Row, ...] = tuple(
    Row(symptom, AREA, made, expected, outcome)
    for symptom, made, expected, outcome in (
        (
            "one infinite gradient ends a run of days",
            "an infinite gradient in step 8 of 20, `max_bad_steps: 10`",
            "19 of 20 rows in the curves, finished",
            bad_steps((7,), 10),
        ),
        (
            "weights that have diverged train on for days",
            "infinite gradients from step 8 on, `max_bad_steps: 3`",
            "step 11: the model's gradient norm is inf, after 3 skipped steps in a row",
            bad_steps((7, 8, 9, 10), 3),
        ),
        (
            "fp16 without steps that may be skipped",
            "`precision: fp16`, `max_bad_steps: 0`",
            "max_bad_steps is 0 and precision is fp16",
            refused(precision="fp16", max_bad_steps=0),
        ),
        (
            "Muon with divided weights",
            "`parallel: fsdp`, `optimizer: muon`",
            "set optimizer: adamw, or parallel: ddp",
            refused(parallel="fsdp", optimizer="muon"),
        ),
        (
            "the best weights of divided ones",
            "`parallel: fsdp`, `keep: best`",
            "set keep: last and patience: null, or parallel: ddp",
            refused(parallel="fsdp", keep="best"),
        ),
    )
)

"""Outputs of an MQ-VAE for several batches, as of one."""

from collections.abc import Sequence
from dataclasses import fields

import torch

from models.mqvae import MQVAEOutput


def joined(parts: Sequence[MQVAEOutput]) -> MQVAEOutput:
    """Concatenate the outputs of several batches, without logits; the commitment is the first one's."""
    names = [field.name for field in fields(MQVAEOutput) if field.name != "logits_BL"]
    columns = {name: [getattr(part, name) for part in parts] for name in names}
    return MQVAEOutput(
        **{name: torch.cat(column) if column[0].ndim else column[0] for name, column in columns.items()}
    )

"""Outputs of an MQ-VAE for several batches, as of one."""

from collections.abc import Sequence
from dataclasses import fields

import torch

from models.mqvae import MQVAEOutput


def joined(parts: Sequence[MQVAEOutput]) -> MQVAEOutput:
    """Concatenate the outputs of several batches; the commitment is the first one's."""
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(MQVAEOutput)}
    return MQVAEOutput(
        **{name: torch.cat(column) if column[0].ndim else column[0] for name, column in columns.items()}
    )

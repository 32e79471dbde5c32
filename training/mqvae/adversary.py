"""The discriminator: what a training begins with (a new one, or the one published beside its start weights), and its calls."""

from torch import Tensor, nn

from models.mqvae.discriminator import FOLDER, PatchDiscriminator
from settings.mqvae import MQVAESettings
from workspace.errors import UserError


def first_discriminator(settings: MQVAESettings) -> PatchDiscriminator:
    """A discriminator of the settings' sizes; with the weights in `init_from`, if given.

    Raises:
        UserError: those are damaged, or of other sizes and `init_partial` is false.
    """
    loss = settings.loss
    made = PatchDiscriminator(loss.discriminator_channels, loss.discriminator_layers)
    if settings.init_from is None or not (settings.init_from / FOLDER).is_dir():
        return made
    try:
        there = PatchDiscriminator.from_pretrained(settings.init_from / FOLDER)
    except ValueError as error:
        raise UserError(f"mqvae.init_from: {error}") from error
    if there.sizes == made.sizes:
        made.load_state_dict(there.state_dict())
    elif not settings.init_partial:
        raise UserError(
            f"mqvae.loss has discriminator_channels {loss.discriminator_channels} and discriminator_layers "
            f"{loss.discriminator_layers}, {settings.init_from / FOLDER} {there.sizes.channels} and {there.sizes.layers}; make "
            "them equal, or set mqvae.init_partial: true for a new discriminator"
        )
    return made


class Judge(nn.Module):
    """A discriminator on a reconstruction and its image: one forward pass for one backward pass, as DDP counts them."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, fake_BCHW: Tensor, real_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of both."""
        return self.discriminator(fake_BCHW), self.discriminator(real_BCHW)

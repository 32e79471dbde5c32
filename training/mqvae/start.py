"""The start of an MQ-VAE's training from published weights: messages and checks before any worker starts."""

from models.mqvae import MQVAE
from settings.mqvae import MQVAESettings
from training.loop.start import Start
from training.mqvae.adversary import first_discriminator
from training.mqvae.module import CODEBOOK
from workspace.errors import UserError
from workspace.progress import say


def check_start(settings: MQVAESettings, model: MQVAE, start: Start) -> None:
    """Say what is not as it was in the weights that a training starts from.

    Args:
        settings: of the training.
        model: with those weights, and with what is frozen frozen.
        start: the weights that were taken.

    Raises:
        UserError: it quantises from the first step on, and has no codebook from there; or nothing that learns gets a gradient.
    """
    for line in start.told:
        say(line)
    if settings.loss.adversarial:
        first_discriminator(settings)
    require_learning(model, settings)
    if (
        settings.quantize_start == 0
        and settings.model.quantizer.kind == "ema"
        and CODEBOOK not in start.taken
    ):
        raise UserError(
            f"mqvae.quantize_start is 0, and {settings.init_from} has no codebook of {settings.model.num_codes} codes to "
            "keep; expected ≥ 1, so that a new one starts from a batch's features"
        )


def require_learning(model: MQVAE, settings: MQVAESettings) -> None:
    """Check that some weight that is not frozen gets a gradient.

    Raises:
        UserError: none does.
    """
    exploration, config = settings.exploration, settings.model
    idle = {}
    if exploration.noise and exploration.freeze_start == 0 and not settings.loss.distillation:
        idle["masker.scorer."] = "with exploration.freeze_start 0 scores pass none"
    if config.kept == "fixed" and config.num_kept == config.num_positions:
        idle["mask_code_D"] = "all cells are kept"
    learning = [name for name, weight in model.named_parameters() if weight.requires_grad]
    if all(name.startswith(tuple(idle)) for name in learning):
        why = "; ".join(why for part, why in idle.items() if any(name.startswith(part) for name in learning))
        raise UserError(
            f"mqvae.freeze leaves {', '.join(learning)} alone to learn, without a gradient in any step: {why}; freeze fewer "
            "parts, or do not train"
        )

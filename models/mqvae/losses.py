"""The losses of VQGAN: pixels, hinge adversary, and the weight that balances the two.

The perceptual loss is passed to the training step as a callable; see evaluation/perceptual/lpips.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """½ (E max(0, 1 - D(x)) + E max(0, 1 + D(x̂))): the discriminator's loss from its logits, a scalar."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator(fake: Tensor) -> Tensor:
    """-E D(x̂): the generator's adversarial loss, a scalar."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, highest: float) -> Tensor:
    """λ = ||∇ L_rec|| / (||∇ L_adv|| + 10⁻⁴) at the decoder's last layer (VQGAN Eq. 7), clamped to [0, highest].

    Args:
        reconstruction: ∇ L_rec at that layer.
        adversarial: ∇ L_adv at that layer.
        highest: upper bound of the weight.

    Returns:
        A scalar, at least float32; 0 if it is not finite.
    """
    dtype = torch.promote_types(reconstruction.dtype, torch.float32)
    weight = reconstruction.to(dtype).norm() / (adversarial.to(dtype).norm() + 1e-4)
    return torch.nan_to_num(weight, nan=0.0, posinf=0.0).clamp(0.0, highest)


def ramp(step: int, start: int, length: int) -> float:
    """0 before `start`, then linear to 1 over `length` steps."""
    return 0.0 if step < start else min(1.0, (step - start + 1) / max(1, length))

"""The optimisers of both trainings: Adam(W) for everything, or Muon for matrices and convolutions and Adam(W) for the rest.

Muon (Jordan et al. 2024) updates a weight matrix by its momentum with all singular values brought near 1. torch's own class
takes 2-D weights one at a time, in bf16. This one also takes convolutions (out × (in · k · k)), processes all matrices of one
shape at once, works in the weights' precision (a CPU may lack bf16, and float64 runs must agree to 1e-12), and can distribute
the matrices over workers.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from settings.schedule import learning_rate
from settings.training import MOST_ITERATIONS, MuonConfig, TrainingSettings
from training.loop.schedules import set_learning_rate
from workspace.exact.optimizers import Unmarked

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all workers, in place."""

COEFFICIENTS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845749, 0.4188073119525673),
)
"""Coefficients of odd quintics whose composition is optimal for its degree at bringing singular values in [1e-3, 1] to 1: Polar
Express (Amsel et al. 2025, Algorithm 1)."""
assert len(COEFFICIENTS) == MOST_ITERATIONS
SMALLEST_SIDE = 4
"""Smaller matrices are left to Adam, because equalising so few singular values has no benefit."""
SLACK = 1.01
"""Margin by which the largest singular value is scaled below 1, because the first polynomial is steep there."""


def orthogonalized(matrix_KOI: Tensor, iterations: int) -> Tensor:
    """U Vᵀ of each U S Vᵀ, nearly: K matrices [O, I] with singular values brought near 1.

    With X₀ = M / ‖M‖, X ← (a + b X Xᵀ + c (X Xᵀ)²) X. The iteration runs on the Gram matrix G = X Xᵀ of the smaller side: each
    polynomial P of G commutes with G, so G ← P G P, and X is multiplied once, by the product of all P. For a 3 × 3
    convolution that takes less than half of the arithmetic.
    """
    tall = matrix_KOI.shape[1] > matrix_KOI.shape[2]
    x_KOI = matrix_KOI.mT if tall else matrix_KOI
    norm_K11: Tensor = torch.linalg.vector_norm(x_KOI, dim=(1, 2), keepdim=True)
    x_KOI = x_KOI / (SLACK * norm_K11).clamp_min(1e-30)
    gram_KOO = x_KOI @ x_KOI.mT
    product_KOO = gram_KOO
    for index, (a, b, c) in enumerate(COEFFICIENTS[:iterations]):
        polynomial_KOO = torch.baddbmm(gram_KOO, gram_KOO, gram_KOO, beta=b, alpha=c)
        polynomial_KOO.diagonal(dim1=1, dim2=2).add_(a)
        product_KOO = polynomial_KOO @ product_KOO if index else polynomial_KOO
        if index + 1 < iterations:
            gram_KOO = polynomial_KOO @ gram_KOO @ polynomial_KOO
    x_KOI = product_KOO @ x_KOI
    return x_KOI.mT if tall else x_KOI


def iterated(matrix_KOI: Tensor, iterations: int) -> Tensor:
    """The same by X ← a X + (b G + c G²) X with G = X Xᵀ, as in Muon's original code: twice the arithmetic, stable in bf16."""
    tall = matrix_KOI.shape[1] > matrix_KOI.shape[2]
    x_KOI = matrix_KOI.mT if tall else matrix_KOI
    x_KOI = x_KOI / (SLACK * torch.linalg.vector_norm(x_KOI, dim=(1, 2), keepdim=True)).clamp_min(1e-30)
    for a, b, c in COEFFICIENTS[:iterations]:
        gram_KOO = x_KOI @ x_KOI.mT
        polynomial_KOO = torch.baddbmm(gram_KOO, gram_KOO, gram_KOO, beta=b, alpha=c)
        x_KOI = torch.baddbmm(x_KOI, polynomial_KOO, x_KOI, beta=a)
    return x_KOI.mT if tall else x_KOI


def direction(update_KOI: Tensor, iterations: int) -> Tensor:
    """The update directions, computed in the way that is fast on the device. A GPU uses bf16, whose products are fifteen times
    as fast as fp32's (docs/results/gpu.md), and therefore not the Gram matrix iteration, which leaves bf16's range."""
    if update_KOI.device.type != "cuda" or update_KOI.dtype == torch.float64:
        return orthogonalized(update_KOI, iterations)
    return iterated(update_KOI.bfloat16(), iterations).to(update_KOI.dtype)


class Muon(Unmarked):
    """Muon for weights of two or more dimensions; see the module docstring.

    Args:
        weights: each is treated as a matrix of its first dimension × all others.
        config: learning rate, momentum, weight decay, iterations.
    """

    def __init__(self, weights: Iterable[nn.Parameter], config: MuonConfig) -> None:
        super().__init__(weights, {"lr": config.learning_rate})
        self.config = config
        self.rank, self.workers = 0, 1
        self.reduce: Reduce | None = None

    def share(self, rank: int, workers: int, reduce: Reduce) -> None:
        """Split the work among workers that have equal weights and gradients: each orthogonalises some of the matrices.

        One worker computes a direction and the others add zeros, which gives the same bits for any number of workers.
        """
        self.rank, self.workers, self.reduce = rank, workers, reduce

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            by_shape = [
                list(members) for _, members in groupby(sorted(weights, key=_matrix_shape), key=_matrix_shape)
            ]
            directions = self._directions([self._momenta(members) for members in by_shape])
            for members, direction_KOI in zip(by_shape, directions, strict=True):
                self._move(members, direction_KOI, group["lr"])

    def _momenta(self, weights: Sequence[nn.Parameter]) -> Tensor:
        """The Nesterov update of each weight before orthogonalisation, [K, O, I]."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - self.config.momentum)
        updates = torch._foreach_lerp(gradients, momenta, self.config.momentum)
        return torch.stack([update.flatten(1) for update in updates])

    def _directions(self, updates: Sequence[Tensor]) -> list[Tensor]:
        """Each [K, O, I] orthogonalised, with one all-reduce over the workers."""
        if self.reduce is None or self.workers == 1:
            return [direction(update_KOI, self.config.iterations) for update_KOI in updates]
        made = [torch.zeros_like(update_KOI) for update_KOI in updates]
        before = 0  # matrices of all shapes are dealt to the workers in turn
        for update_KOI, direction_KOI in zip(updates, made, strict=True):
            mine = slice((self.rank - before) % self.workers, None, self.workers)
            if len(update_KOI[mine]):
                direction_KOI[mine] = direction(update_KOI[mine], self.config.iterations)
            before += len(update_KOI)
        flat = self.reduce(torch.cat([direction_KOI.flatten() for direction_KOI in made]))
        parts = flat.split([direction_KOI.numel() for direction_KOI in made])
        return [part.view_as(direction_KOI) for part, direction_KOI in zip(parts, made, strict=True)]

    def _move(self, weights: Sequence[nn.Parameter], direction_KOI: Tensor, rate: float) -> None:
        """Apply weight decay, then step along each direction, farther for tall matrices (Jordan's scale)."""
        if self.config.weight_decay:
            torch._foreach_mul_(list(weights), 1 - rate * self.config.weight_decay)
        rows, columns = direction_KOI.shape[1:]
        scale = -rate * max(1.0, rows / columns) ** 0.5
        for weight, direction_OI in zip(weights, direction_KOI, strict=True):
            weight.add_(direction_OI.view(weight.shape), alpha=scale)


def _matrix_shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight[0].numel()


def is_matrix(weight: Tensor) -> bool:
    """Whether Muon takes this weight."""
    return weight.ndim >= 2 and min(_matrix_shape(weight)) >= SMALLEST_SIDE


def build_optimizers(
    settings: TrainingSettings,
    adam: Callable[[list[nn.Parameter]], Optimizer],
    weights: Iterable[nn.Parameter],
    for_muon: Callable[[nn.Parameter], bool],
) -> dict[str, Optimizer]:
    """A model's optimisers by name: `model`, and where the kind asks for it `muon`; none for what is frozen.

    Args:
        settings: the optimiser for matrices, and Muon's settings.
        adam: builds the optimiser for all other weights.
        weights: the model's weights.
        for_muon: whether Muon may take a weight; `is_matrix` must hold too.
    """
    learning = [weight for weight in weights if weight.requires_grad]
    if settings.optimizer == "adamw":
        return {"model": adam(learning)}
    chosen: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for weight in learning:
        (chosen if is_matrix(weight) and for_muon(weight) else rest).append(weight)
    rest_alone = {"model": adam(rest)} if rest else {}
    return rest_alone | ({"muon": Muon(chosen, settings.muon)} if chosen else {})


def set_learning_rates(optimizers: dict[str, Optimizer], settings: TrainingSettings, step: int) -> float:
    """Set a step's rates (0-based): `model` by the schedule, `muon` at the same share of its own peak; returns `model`'s."""
    rate = learning_rate(
        step, settings.steps, settings.learning_rate, settings.warmup_steps, settings.min_lr_ratio
    )
    if "model" in optimizers:
        set_learning_rate(optimizers["model"], rate)
    if "muon" in optimizers:
        set_learning_rate(optimizers["muon"], rate / settings.learning_rate * settings.muon.learning_rate)
    return rate

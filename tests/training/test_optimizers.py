"""Muon: directions with equal singular values, whatever a matrix's shape, its neighbours and the workers."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from settings.training import MuonConfig
from tests.training.test_stackformer_training import TRAINING
from training.loop.optimizers import COEFFICIENTS, Muon, build_optimizers, is_matrix, orthogonalized

CONFIG = MuonConfig(learning_rate=0.02, momentum=0.9, weight_decay=0.1, iterations=5)
SHAPES = ((6, 5), (5, 6), (6, 5), (8, 4, 3, 3), (5, 6))


def weights(seed: int = 0, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    made = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]
    for weight in made:
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return made


def stepped(parameters: list[nn.Parameter], steps: int = 3) -> list[Tensor]:
    optimizer = Muon(parameters, CONFIG)
    for _ in range(steps):
        optimizer.step()
    return [weight.detach() for weight in parameters]


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (64, 576)])
def test_five_iterations_bring_all_singular_values_near_one_and_keep_the_singular_vectors(
    shape: tuple[int, int],
) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, *shape, generator=generator)
    got = orthogonalized(matrix, 5)
    values = torch.linalg.svdvals(got)
    assert values.min() > 0.85 and values.max() < 1.15
    u, _, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    core = u.mT @ got.double() @ vt.mT
    torch.testing.assert_close(core, torch.diag_embed(core.diagonal(dim1=1, dim2=2)), rtol=0, atol=1e-4)


def test_the_gram_form_is_the_iteration_written_out() -> None:
    matrix = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = matrix / (1.01 * torch.linalg.vector_norm(matrix, dim=(1, 2), keepdim=True))
    for a, b, c in COEFFICIENTS[:3]:
        gram = expected @ expected.mT
        expected = a * expected + (b * gram + c * gram @ gram) @ expected
    torch.testing.assert_close(orthogonalized(matrix, 3), expected, rtol=0, atol=1e-10)


def test_a_convolution_is_the_matrix_of_its_filters() -> None:
    convolution = weights(shapes=((8, 4, 3, 3),))
    matrix = nn.Parameter(convolution[0].detach().flatten(1).clone())
    assert convolution[0].grad is not None
    matrix.grad = convolution[0].grad.flatten(1).clone()
    (got,), (expected,) = stepped(convolution), stepped([matrix])
    torch.testing.assert_close(got.flatten(1), expected, rtol=0, atol=1e-12)


def test_channels_last_weights_stay_so_and_get_the_same_update() -> None:
    (plain,), (last,) = weights(shapes=((8, 4, 3, 3),)), weights(shapes=((8, 4, 3, 3),))
    last.data = last.data.to(memory_format=torch.channels_last)
    (expected,), (got,) = stepped([plain]), stepped([last])
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_a_matrix_is_updated_as_if_it_were_alone() -> None:
    together = stepped(weights())
    for index in range(len(SHAPES)):
        (alone,) = stepped([weights()[index]])
        torch.testing.assert_close(together[index], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_that_share_the_matrices_out_get_the_bits_of_one(workers: int) -> None:
    expected = stepped(weights(), steps=1)
    parts: list[Tensor] = []

    def collect(rank: int) -> list[nn.Parameter]:
        own = weights()
        optimizer = Muon(own, CONFIG)

        def reduce(directions: Tensor) -> Tensor:
            parts.append(directions.clone())
            if rank == workers - 1:  # the last to come sees what all others gave
                directions.copy_(torch.stack(parts).sum(dim=0))
            return directions

        optimizer.share(rank, workers, reduce)
        optimizer.step()
        return own

    last = [collect(rank) for rank in range(workers)][-1]
    for got, wanted in zip(last, expected, strict=True):
        assert torch.equal(got.detach(), wanted)
    assert all(part.count_nonzero() < part.numel() for part in parts), "nobody does all of it"


def test_the_step_points_where_torchs_own_muon_points() -> None:
    own, other = weights(shapes=((48, 32),)), weights(shapes=((48, 32),))
    before = own[0].detach().clone()
    Muon(own, MuonConfig(0.02, 0.9, 0.0, 5)).step()
    torch.optim.Muon(other, lr=0.02, momentum=0.9, weight_decay=0.0).step()
    ours, theirs = own[0].detach() - before, other[0].detach() - before
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.95
    assert ours.norm() / theirs.norm() == pytest.approx(1, abs=0.35)  # its own values lie in 0.5 … 1.5


def test_muon_takes_matrices_that_are_its_own_and_adam_all_else() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1), nn.GroupNorm(2, 8), nn.Linear(8, 8))

    def adam(weights: list[nn.Parameter]) -> torch.optim.Adam:
        return torch.optim.Adam(weights)

    both = TRAINING.replaced(optimizer="muon")
    made = build_optimizers(both, adam, model.parameters(), lambda weight: weight is not model[3].weight)
    of_muon = {id(weight) for group in made["muon"].param_groups for weight in group["params"]}
    of_adam = {id(weight) for group in made["model"].param_groups for weight in group["params"]}
    assert of_muon == {id(weight) for weight in model.parameters() if is_matrix(weight)} - {
        id(model[3].weight)
    }
    assert len(of_muon) == 0 or not of_muon & of_adam
    assert len(of_muon) + len(of_adam) == len(list(model.parameters()))
    assert list(build_optimizers(TRAINING, adam, model.parameters(), is_matrix)) == ["model"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0.0), ("momentum", 1.0), ("weight_decay", -0.1), ("iterations", 0), ("iterations", 6)],
)
def test_a_setting_out_of_range_is_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}, expected"):
        MuonConfig(**{field: value})  # type: ignore[arg-type]

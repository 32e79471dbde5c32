"""De-masking builds no L × L matrix: what it makes and keeps grows as L."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from models.mqvae.demasker import Demasker


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation gave back."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [part.numel() for part in tree_flatten(made)[0] if isinstance(part, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return made


@pytest.mark.parametrize("kind", ["sa", "dcsa", "dcsa_update"])
def test_the_largest_tensor_of_a_pass_forth_and_back_grows_as_the_number_of_cells(kind: Any) -> None:
    demasker, found = Demasker(8, 2, kind), {}
    for side in (16, 32, 64):
        z_BDHW = torch.randn(1, 8, side, side, requires_grad=True)
        kept_BL = torch.rand(1, side**2) < 0.5
        with Largest() as largest:
            demasker(z_BDHW, kept_BL).sum().backward()
        found[side**2] = largest.elements
    for cells, elements in found.items():
        assert elements <= 3 * 8 * cells, f"q, k and v of {cells} cells are the largest"

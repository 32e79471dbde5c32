"""Laws of a Stackformer's tables for other tokens: what both have is taken, positions are interpolated, the rest is new."""

from dataclasses import replace
from typing import Literal

import pytest
import torch

from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from models.stackformer.tables import interpolated, parts_of, refitted

NETWORK = NetworkConfig(16, 2, 1, 1, 0.0, "ascending")
CONFIG = StackformerConfig(NETWORK, 8, 16, 6, "class", 1, 3)
TABLES = ("e_c.weight", "e_p.weight", "e_t.weight", "code_head.weight", "position_head.weight")


def pair(**changed: object) -> tuple[Stackformer, Stackformer]:
    torch.manual_seed(0)
    return Stackformer(CONFIG), Stackformer(replace(CONFIG, **changed))  # type: ignore[arg-type]


def moved(there: Stackformer, here: Stackformer) -> tuple[dict[str, torch.Tensor], str]:
    """Every weight of `there` for `here`, and what is said."""
    old, new = there.state_dict(), here.state_dict()
    found, told = {}, []
    for name in TABLES:
        fitted = refitted(name, old[name], new[name], there.config, here.config)
        assert fitted is not None
        found[name] = fitted[0]
        told += [f"{name}: {line}" for line in fitted[1]]
    return found, "; ".join(told)


@pytest.mark.parametrize(
    "config", [CONFIG, replace(CONFIG, condition="text", condition_length=3, condition_vocab=9)]
)
def test_the_parts_of_a_table_are_its_rows(config: StackformerConfig) -> None:
    weights = Stackformer(config).state_dict()
    assert {name: sum(part.rows for part in parts_of(name, config)) for name in TABLES} == {
        name: len(weights[name]) for name in TABLES
    }
    assert parts_of("code_transformer.norm.weight", config) == []


def test_equal_configs_give_equal_tables_and_nothing_to_say() -> None:
    there, here = pair()
    found, told = moved(there, here)
    assert not told
    torch.testing.assert_close(found, {name: there.state_dict()[name] for name in TABLES}, rtol=0, atol=0)


def test_other_classes_get_new_rows_and_keep_codes_and_the_null_condition() -> None:
    there, here = pair(condition_vocab=5)
    found, told = moved(there, here)
    assert told == "e_c.weight: 5 conditions new, 3 there"
    e_c = found["e_c.weight"]
    assert torch.equal(e_c[:8], there.e_c.weight[:8]) and torch.equal(e_c[-1], there.e_c.weight[-1])
    assert torch.equal(e_c[8:13], here.e_c.weight[8:13])


def test_as_many_conditions_of_another_kind_are_new() -> None:
    there, here = pair(condition="text", condition_vocab=3)
    found, told = moved(there, here)
    assert "conditions new, of text where there it is class" in told
    assert torch.equal(found["e_c.weight"][8:11], here.e_c.weight[8:11])


def test_another_grid_interpolates_positions_and_places_and_keeps_sos() -> None:
    there, here = pair(num_positions=64, num_kept=24)
    found, told = moved(there, here)
    assert "e_p.weight: positions interpolated, 16 → 64" in told
    assert "e_t.weight: places of codes interpolated, 5 → 23" in told
    assert torch.equal(found["e_p.weight"][-1], there.e_p.weight[-1])
    assert found["position_head.weight"].shape == (64, 16)


@pytest.mark.parametrize(("count", "spread"), [(64, "grid"), (4, "grid"), (15, "grid"), (9, "line")])
def test_interpolation_keeps_what_is_constant_and_the_order_of_what_ascends(
    count: int, spread: Literal["grid", "line"]
) -> None:
    torch.testing.assert_close(
        interpolated(torch.full((16, 3), 0.7), count, spread), torch.full((count, 3), 0.7)
    )
    if spread == "line":
        line = interpolated(torch.arange(16.0)[:, None], count, "line")
        assert (line[1:] > line[:-1]).all()
    elif count != 15:
        rows = torch.arange(4.0)[:, None].expand(4, 4).reshape(16, 1)
        grid = interpolated(rows, count, "grid").view(int(count**0.5), -1)
        assert (grid[1:] > grid[:-1]).all() and torch.allclose(grid, grid[:, :1])

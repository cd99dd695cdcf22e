"""What a product gives at a position does not depend on what else is multiplied, or by whom."""

from collections.abc import Callable

import pytest
import torch

from nmt.kernels.float32_product import Float32Product, can_multiply_float32
from nmt.kernels.int8_product import Int8Product, can_multiply_int8

KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(not can, reason="no such instructions, or no compiler"))
    for kind, can in ((Float32Product, can_multiply_float32()), (Int8Product, can_multiply_int8()))
]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_position_does_not_depend_on_its_neighbours_or_on_threads(
    kind: type[Float32Product] | type[Int8Product], threads: int, set_threads: Callable[[int], None]
) -> None:
    torch.manual_seed(5)
    product = kind(torch.randn(1500, 96), torch.randn(1500), relu=False)
    hidden = torch.randn(430, 96)
    alone = torch.cat([product(row) for row in hidden.split(1)])
    set_threads(threads)
    assert torch.equal(product(hidden), alone)
    assert torch.equal(torch.cat([product(rows) for rows in hidden.split(7)]), alone)

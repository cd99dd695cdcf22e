"""A linear map of bytes is nearly the map."""

import pytest
import torch
import torch.nn.functional as F

from nmt.kernels.int8_product import Int8Product, can_multiply_int8

pytestmark = pytest.mark.skipif(not can_multiply_int8(), reason="no AVX512-VNNI, or no compiler")


def make(
    width: int, outputs: int, *, bias: bool = True, relu: bool = False
) -> tuple[Int8Product, torch.Tensor]:
    torch.manual_seed(width)
    weight = torch.randn(outputs, width)
    bias_E = torch.randn(outputs) if bias else None
    hidden = torch.randn(50, 3, width) * torch.rand(50, 3, 1) * 10
    expected = F.linear(hidden, weight, bias_E)
    found = Int8Product(weight, bias_E, relu=relu)(hidden)
    return found, expected.relu() if relu else expected


@pytest.mark.parametrize("width", [1, 3, 4, 66, 256, 1024])
@pytest.mark.parametrize("outputs", [1, 15, 64, 100, 768])
def test_it_is_nearly_the_map(width: int, outputs: int) -> None:
    found, expected = make(width, outputs)
    assert (found - expected).norm() / expected.norm() < 0.02


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_bias_and_activation_are_inside(bias: bool, relu: bool) -> None:
    found, expected = make(64, 80, bias=bias, relu=relu)
    assert (found - expected).norm() / expected.norm() < 0.02
    assert bool((found < 0).any()) is not relu


def test_it_is_exact_where_nothing_is_rounded() -> None:
    """Whole numbers up to 127 in every row and column, and sums that a float holds."""
    torch.manual_seed(4)
    weight, hidden = torch.randint(-127, 128, (70, 37)).float(), torch.randint(-127, 128, (20, 37)).float()
    weight[:, 0], hidden[:, 0] = 127, -127
    found = Int8Product(weight, None, relu=False)(hidden)
    torch.testing.assert_close(found, hidden @ weight.T, atol=0, rtol=1e-6)


def test_zeros_and_what_is_no_number() -> None:
    product = Int8Product(torch.randn(8, 20), bias := torch.randn(8), relu=False)
    hidden = torch.zeros(3, 20)
    hidden[1, 4] = torch.nan
    found = product(hidden)
    assert torch.equal(found[0], bias)
    assert torch.equal(found[2], bias)
    assert found[1].isnan().all()
    assert product(hidden[:0]).shape == (0, 8)

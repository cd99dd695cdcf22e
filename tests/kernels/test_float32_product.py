"""A linear map in float32 in C is the map."""

import pytest
import torch
import torch.nn.functional as F

from nmt.kernels.float32_product import Float32Product, can_multiply_float32

pytestmark = pytest.mark.skipif(not can_multiply_float32(), reason="no AVX512, or no compiler")


@pytest.mark.parametrize("width", [1, 3, 66, 256, 1024])
@pytest.mark.parametrize("outputs", [1, 15, 64, 100, 768])
@pytest.mark.parametrize("positions", [0, 1, 5, 6, 7, 400])
def test_it_is_the_map(width: int, outputs: int, positions: int) -> None:
    torch.manual_seed(1)
    weight, bias, hidden = torch.randn(outputs, width), torch.randn(outputs), torch.randn(positions, 1, width)
    for own_bias in (bias, None):
        for relu in (False, True):
            expected = F.linear(hidden.double(), weight.double(), None if own_bias is None else bias.double())
            found = Float32Product(weight, own_bias, relu=relu)(hidden)
            assert found.dtype is torch.float32
            expected = expected.relu() if relu else expected
            torch.testing.assert_close(found.double(), expected, atol=1e-6 * width, rtol=1e-5)


def test_what_is_no_number_stays_so() -> None:
    hidden = torch.zeros(2, 20)
    hidden[1, 4] = torch.nan
    found = Float32Product(torch.randn(8, 20), None, relu=True)(hidden)
    assert not found[0].any()
    assert found[1].isnan().all()

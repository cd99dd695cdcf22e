"""The linear map trained on a CPU is that of PyTorch."""

import pytest
import torch
import torch.nn.functional as F

from nmt.model.linear import linear

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 12), (5, 12), (3, 7, 12)])
def test_value_and_gradients(dtype: torch.dtype, has_bias: bool, shape: tuple[int, ...]) -> None:
    """The last rows of a larger weight too, as cross-attention takes its key and value projections."""
    torch.manual_seed(2)
    tensors = [torch.randn(*shape), torch.randn(24, shape[-1])[8:]] + ([torch.randn(16)] if has_bias else [])
    results = []
    for compute, kind in ((linear, dtype), (F.linear, torch.float64)):
        given = [tensor.detach().to(kind).requires_grad_() for tensor in tensors]
        output = compute(*given, None) if not has_bias else compute(*given)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output).to(kind)).sum().backward()
        results.append([output.detach(), *(each.grad for each in given)])
    for mine, expected in zip(*results, strict=True):
        assert mine.dtype is dtype
        scale = float(expected.abs().max())
        torch.testing.assert_close(mine.double(), expected, rtol=0, atol=TOLERANCES[dtype] * scale)


def test_gradients_of_what_is_asked_alone() -> None:
    weight = torch.randn(4, 3, requires_grad=True)
    linear(torch.randn(2, 3), weight, torch.randn(4)).sum().backward()
    assert weight.grad is not None

"""The loss equals PyTorch's, value and gradient, and padding does not count."""

import pytest
import torch
import torch.nn.functional as F

from nmt.training import loss
from nmt.training.loss import smoothed_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("chunk_slots", [3, 256])
def test_equals_torch(smoothing: float, chunk_slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_SLOTS", chunk_slots)
    hidden = torch.randn(4, 5, 8, requires_grad=True)
    weight = torch.randn(11, 8, requires_grad=True)
    target = torch.randint(0, 11, (4, 5))
    expected = F.cross_entropy(
        (hidden @ weight.T).flatten(0, 1),
        target.flatten(),
        ignore_index=0,
        label_smoothing=smoothing,
        reduction="sum",
    )
    expected_gradients = torch.autograd.grad(3 * expected, (hidden, weight))
    smoothed, plain = smoothed_cross_entropy(hidden @ weight.T, target, smoothing=smoothing, pad_id=0)
    torch.testing.assert_close(smoothed, expected)
    torch.testing.assert_close(
        plain,
        F.cross_entropy((hidden @ weight.T).flatten(0, 1), target.flatten(), ignore_index=0, reduction="sum"),
    )
    gradients = torch.autograd.grad(3 * smoothed, (hidden, weight))
    torch.testing.assert_close(gradients, expected_gradients)


def test_bfloat16_is_summed_in_float32() -> None:
    logits = torch.randn(5000, 50).bfloat16()
    target = torch.randint(1, 50, (5000,))
    expected = F.cross_entropy(logits.float(), target, reduction="sum")
    _, plain = smoothed_cross_entropy(logits, target, smoothing=0.1, pad_id=0)
    assert plain.dtype is torch.float32
    torch.testing.assert_close(plain, expected, rtol=1e-5, atol=1e-3)


def test_nothing_is_overwritten_without_a_gradient() -> None:
    logits = torch.randn(6, 9)
    kept = logits.clone()
    smoothed_cross_entropy(logits, torch.randint(1, 9, (6,)), smoothing=0.1, pad_id=0)
    torch.testing.assert_close(logits, kept, rtol=0, atol=0)

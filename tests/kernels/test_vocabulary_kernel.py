"""Maxima and sums over a vocabulary in C are those of PyTorch."""

import pytest
import torch

from nmt.kernels.vocabulary import can_summarise, summarise_vocabulary

pytestmark = pytest.mark.usefixtures("instructions")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [3, 16, 63, 64, 100, 1000, 8192, 32007])
def test_they_are_those_of_pytorch(vocabulary: int, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    logits = (20 * torch.randn(6, vocabulary)).to(dtype)
    logits[:, 1] = -torch.inf
    logits[2] -= 300
    logits[3] += 300
    maxima, sums = summarise_vocabulary(logits, block=64)
    blocks = vocabulary // 64
    assert torch.equal(maxima, logits[:, : 64 * blocks].float().view(6, blocks, 64).amax(-1))
    torch.testing.assert_close(sums.double(), logits.double().logsumexp(-1), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("place", [0, 70, 129])
def test_a_sum_with_no_number_is_none(place: int) -> None:
    logits = torch.randn(3, 130)
    logits[1, place] = torch.nan
    _, sums = summarise_vocabulary(logits, block=64)
    assert sums.isnan().tolist() == [False, True, False]


def test_rows_that_several_threads_share_are_the_same() -> None:
    logits = torch.randn(400, 8001)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(summarise_vocabulary(logits, block=64))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_what_it_does_not_take() -> None:
    logits = torch.randn(4, 70)
    assert can_summarise(logits)
    assert not can_summarise(logits.half())
    assert not can_summarise(logits.t())
    assert not can_summarise(logits.to("meta"))

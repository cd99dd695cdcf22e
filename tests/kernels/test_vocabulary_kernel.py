"""Maxima and sums over a vocabulary in C are those of PyTorch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nmt.kernels.vocabulary import can_search, choose_continuations, summarise_vocabulary

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


def chosen(logits: Tensor, offset: Tensor, count: int) -> tuple[Tensor, Tensor]:
    maxima, _ = summarise_vocabulary(logits.flatten(0, 1), block=64)
    return choose_continuations(logits, offset, maxima.view(*offset.shape, -1), block=64, count=count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [3, 64, 100, 1000, 8192])
@pytest.mark.parametrize(("beams", "count"), [(1, 2), (1, 64), (5, 10), (8, 3)])
def test_the_best_are_chosen_and_of_equals_the_first(
    beams: int, count: int, vocabulary: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(2)
    # Whole numbers, of which many are equal.
    logits = torch.randint(-40, 40, (7, beams, vocabulary)).to(dtype)
    logits[..., 1] = -torch.inf
    offset = torch.randint(-3, 3, (7, beams)).float()
    values, places = chosen(logits, offset, count)
    sums = (logits.float() + offset.unsqueeze(-1)).flatten(1)
    order = sums.sort(dim=1, descending=True, stable=True)
    possible = min(count, beams * (vocabulary - 1))
    assert torch.equal(values[:, :possible], order.values[:, :possible])
    assert torch.equal(places[:, :possible], order.indices[:, :possible])
    assert (values[:, possible:] == -torch.inf).all()
    assert not places[:, possible:].any()


def test_what_is_no_number_is_never_chosen() -> None:
    logits = torch.randn(2, 3, 130)
    logits[0, 1, 5] = logits[0, 2, 129] = torch.nan
    offset = torch.zeros(2, 3)
    offset[1] = torch.tensor([-torch.inf, torch.nan, 0])
    values, places = chosen(logits, offset, 6)
    assert values.isfinite().all()
    assert (places[1] >= 260).all()


def test_rows_that_several_threads_share_are_the_same(set_threads: Callable[[int], None]) -> None:
    logits = torch.randn(400, 8001)
    found = []
    for threads in (1, 4):
        set_threads(threads)
        summary = summarise_vocabulary(logits, block=64)
        found.append((*summary, *chosen(logits.view(80, 5, -1), torch.zeros(80, 5), 9)))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_what_it_does_not_take() -> None:
    logits = torch.randn(4, 70)
    assert can_search(logits)
    assert not can_search(logits.half())
    assert not can_search(logits.t())
    assert not can_search(logits.to("meta"))

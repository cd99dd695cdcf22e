"""Attention in C is attention by its formula."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nmt.kernels.attention import attend, can_attend

pytestmark = pytest.mark.usefixtures("instructions")

FORBIDDEN = torch.finfo(torch.float32).min / 2
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 2e-2}


def by_formula(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query.double() @ key.double().transpose(-1, -2) / query.shape[-1] ** 0.5 + mask.double()
    return (scores.softmax(-1) @ value.double()).transpose(1, 2).flatten(2)


def random_mask(*shape: int) -> Tensor:
    """A third of the keys are looked at, and the first one by all."""
    mask = torch.where(torch.rand(shape) < 0.3, 0.0, FORBIDDEN)
    mask[..., 0] = 0
    return mask


@pytest.mark.parametrize("size", [4, 16, 30, 32, 64, 128, 200, 256])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 7), (5, 40), (33, 33), (3, 1000)])
@pytest.mark.parametrize(
    "types", [(torch.float32,) * 2, (torch.float32, torch.bfloat16), (torch.bfloat16,) * 2]
)
def test_it_is_the_formula(
    size: int, queries: int, keys: int, types: tuple[torch.dtype, torch.dtype]
) -> None:
    torch.manual_seed(1)
    query = torch.randn(3, 2, queries, size).to(types[0])
    key, value = torch.randn(2, 3, 2, keys, size).to(types[1])
    for mask in (
        random_mask(3, 1, queries, keys),
        random_mask(3, 1, 1, keys),
        random_mask(1, 1, queries, keys),
    ):
        found = attend(query, key, value, mask)
        assert found.dtype is types[0]
        error = (found.double() - by_formula(query, key, value, mask)).abs().max()
        assert error < TOLERANCE[types[0]]


def test_tensors_may_lie_in_any_order() -> None:
    torch.manual_seed(2)
    projected = torch.randn(2, 9, 3, 4, 32)
    query, key, value = projected.permute(2, 0, 3, 1, 4)
    mask = random_mask(2, 1, 9, 9)
    found = attend(query, key, value, mask)
    torch.testing.assert_close(found, attend(*(each.contiguous() for each in (query, key, value)), mask))
    other_order = torch.randn(2, 4, 32, 9).transpose(2, 3)
    torch.testing.assert_close(
        attend(query, other_order, value, mask), attend(query, other_order.contiguous(), value, mask)
    )


def test_a_large_score_does_not_overflow_and_what_is_no_number_stays_so() -> None:
    query, key, value = (
        torch.full((1, 1, 2, 16), 40.0),
        torch.full((1, 1, 3, 16), 40.0),
        torch.randn(1, 1, 3, 16),
    )
    mask = torch.zeros(1, 1, 2, 3)
    torch.testing.assert_close(attend(query, key, value, mask)[0, 0], value[0, 0].mean(0))
    query[0, 0, 1] = torch.nan
    found = attend(query, key, value, mask)
    assert found[0, 1].isnan().all()
    assert not found[0, 0].isnan().any()


def test_a_result_is_rounded_as_pytorch_rounds() -> None:
    """The mean of one value is the value; every second of these lies between two numbers of bfloat16."""
    values = (1 + torch.arange(-512, 512) / 256).view(1, 4, 1, 256).float()
    query = torch.zeros(1, 4, 1, 256, dtype=torch.bfloat16)
    found = attend(query, values, values, torch.zeros(1, 1, 1, 1))
    assert torch.equal(found.view(-1), values.view(-1).to(torch.bfloat16))


def test_a_query_that_may_look_at_nothing_gets_zeros() -> None:
    query, key = torch.randn(2, 1, 2, 3, 16)[0:1, 0], torch.randn(1, 2, 4, 16)
    mask = torch.zeros(1, 1, 3, 4)
    mask[:, :, 1] = FORBIDDEN
    found = attend(query, key, key, mask)
    assert not found[0, 1].any()
    assert found[0, ::2].abs().sum(-1).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_sentence_does_not_depend_on_its_neighbours_or_on_threads(
    threads: int, set_threads: Callable[[int], None]
) -> None:
    torch.manual_seed(3)
    query, key, value = torch.randn(3, 7, 8, 128, 40)
    mask = random_mask(7, 1, 1, 128)
    alone = [attend(query[b : b + 1], key[b : b + 1], value[b : b + 1], mask[b : b + 1]) for b in range(7)]
    set_threads(threads)
    assert torch.equal(attend(query, key, value, mask), torch.cat(alone))


def test_what_it_does_not_take() -> None:
    query, mask = torch.randn(1, 2, 3, 16), torch.zeros(1, 1, 3, 3)
    assert can_attend(query, query, mask)
    assert not can_attend(query, query, None)
    assert not can_attend(query, query, torch.zeros(1, 2, 3, 3)), "a mask for each head"
    assert not can_attend(query.half(), query, mask)
    assert not can_attend(query.to("meta"), query, mask)
    assert not can_attend(torch.randn(1, 1, 3, 257), query, mask)

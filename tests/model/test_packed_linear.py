"""Packed weights compute the same map."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from nmt.model.config import Activation, TransformerConfig
from nmt.model.layers import FeedForward
from nmt.model.linear import Linear
from nmt.model.packed_linear import PackedLinear, can_pack, pack_linears

CPU = torch.device("cpu")
PARTS = [(0, 96), (0, 32), (32, 96)]


def make_linear(bias: bool = True) -> Linear:
    torch.manual_seed(1)
    linear = Linear(64, 96, bias=bias).requires_grad_(False)
    if bias:
        torch.nn.init.normal_(linear.bias)
    return linear


@pytest.mark.skipif(not can_pack(torch.float32, CPU), reason="oneDNN has no layout of its own here")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("start", "stop"), PARTS)
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_float_weights_give_the_same_product(bias: bool, start: int, stop: int, rows: int) -> None:
    linear = make_linear(bias)
    hidden = torch.randn(rows, 3, 64)
    with torch.inference_mode():
        found = PackedLinear(linear, int8=False).part(hidden, start, stop)
    torch.testing.assert_close(found, linear(hidden)[..., start:stop], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("activation", list(Activation))
def test_a_feed_forward_block_is_the_same_with_its_activation_inside(
    int8: bool, activation: Activation
) -> None:
    torch.manual_seed(2)
    config = TransformerConfig(width=32, heads=2, feed_forward_width=64, activation=activation)
    block = nn.ModuleList([FeedForward(config).eval()]).requires_grad_(False)
    packed = copy.deepcopy(block)
    hidden = torch.randn(40, 32)
    with torch.inference_mode():
        pack_linears(packed, int8=int8)
        assert isinstance(packed[0].expand, PackedLinear)
        tolerance = 0.1 if int8 else 1e-5
        torch.testing.assert_close(packed[0](hidden), block[0](hidden), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("start", "stop"), PARTS)
def test_int8_weights_give_nearly_the_same_product(start: int, stop: int) -> None:
    linear = make_linear()
    hidden = torch.randn(50, 64)
    with torch.inference_mode():
        found = PackedLinear(linear, int8=True).part(hidden, start, stop)
    expected = linear(hidden)[..., start:stop]
    assert found.dtype is torch.float32
    assert 0 < (found - expected).norm() / expected.norm() < 0.03


def test_weights_are_not_kept_twice() -> None:
    packed = PackedLinear(make_linear(), int8=True)
    hidden = torch.randn(2, 64)
    packed.part(hidden, 0, 32)
    assert packed._weight_ED is not None
    packed.part(hidden, 32, 96)
    assert packed._weight_ED is None
    packed.part(hidden, 0, 32)


def test_threads_that_come_first_together_pack_once() -> None:
    packed = PackedLinear(make_linear(), int8=True)
    hidden = torch.randn(4, 64)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: packed(hidden), range(64)))
    assert len(packed._parts) == 1
    assert all(torch.equal(each, found[0]) for each in found)

"""The model as it decodes: in the type chosen, its linear maps laid out for the device."""

import copy
from typing import Any

import torch
from torch import nn

from nmt.decoding.config import DecodingPrecision
from nmt.decoding.ensemble import TranslationModel
from nmt.model.device import DeviceError
from nmt.model.packed_linear import can_pack, pack_linears
from nmt.model.precision import fastest_dtype
from nmt.model.transformer import Transformer

_DTYPES = {
    DecodingPrecision.float32: torch.float32,
    DecodingPrecision.bfloat16: torch.bfloat16,
    DecodingPrecision.float16: torch.float16,
    # Everything but the products of weights and, where bfloat16 is faster, attention.
    DecodingPrecision.int8: torch.float32,
}


def decoding_model(
    model: TranslationModel, precision: DecodingPrecision, device: torch.device
) -> TranslationModel:
    """A model that only decodes, with the weights of this moment; `model` stays as it is.

    `auto` takes the fastest type for a float32 model and leaves any other as it is.

    Raises:
        DeviceError: int8 on a device that has no such products.
    """
    int8 = precision is DecodingPrecision.int8
    if int8 and device.type != "cpu":
        raise DeviceError(f"decoding.precision=int8 is for CPUs, not {device.type}: choose auto or float16")
    if precision is not DecodingPrecision.auto:
        dtype = _DTYPES[precision]
    else:
        dtype = fastest_dtype(device) if model.dtype is torch.float32 else model.dtype
    decoding = _copy(model, dtype).eval()
    if int8 or can_pack(dtype, device):
        pack_linears(decoding, int8=int8)
    if int8 and fastest_dtype(device) is torch.bfloat16:
        for module in decoding.modules():
            if isinstance(module, Transformer):
                module.cache_dtype = torch.bfloat16
    return decoding


def _copy(model: TranslationModel, dtype: torch.dtype) -> TranslationModel:
    """Another model around the same weights, which are copied only if their type changes."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().clone()
    return copy.deepcopy(model, memo)

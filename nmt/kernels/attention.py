"""Attention of short rows on a CPU; see attention.c.

Shapes: B sentences, H heads, T queries, S keys, K head size.
"""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from nmt.kernels.library import function

_MOST_SIZE = 256
_TYPES = (torch.float32, torch.bfloat16)


class _Attention(ctypes.Structure):
    """`attention` of attention.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("query", "keys", "values", "mask", "context")),
        *((name, ctypes.c_int64) for name in ("sentences", "heads", "queries", "keys_per_sentence", "size")),
        *((name, ctypes.c_int64) for name in ("query_B", "query_H", "query_T")),
        *((name, ctypes.c_int64) for name in ("keys_B", "keys_H", "keys_S", "mask_B", "mask_T")),
        ("scale", ctypes.c_float),
        ("query_is_bfloat16", ctypes.c_int),
        ("keys_are_bfloat16", ctypes.c_int),
    ]


def _function() -> Any:
    return function("attend", _Attention, ctypes.c_int)


def can_attend(query: Tensor, keys: Tensor, mask: Tensor | None) -> bool:
    """Whether `attend` is there and takes tensors like these."""
    return (
        mask is not None
        and query.device.type == "cpu"
        and query.dtype in _TYPES
        and keys.dtype in _TYPES
        and query.shape[-1] <= _MOST_SIZE
        and mask.shape[1] == 1
        and _function() is not None
    )


def attend(query_BHTK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask: Tensor) -> Tensor:
    """softmax(QK^T / sqrt(K) + mask) V with the heads side by side, [B, T, H * K], of the query's type.

    Computed in float32. No gradient. Keys and values of one type and order, which may be another one than
    the query's.

    Args:
        mask: broadcasts to [B, 1, T, S]; 0 where a query may look, -inf or next to it elsewhere. A query that
            may look at nothing gets zeros.

    Raises:
        MemoryError: there is none to work in.
    """
    sentences, heads, queries, size = query_BHTK.shape
    length = key_BHSK.shape[2]
    # The last dimension in order; the others may lie as they like.
    query_BHTK, key_BHSK, value_BHSK = map(_rows_in_order, (query_BHTK, key_BHSK, value_BHSK))
    if key_BHSK.stride() != value_BHSK.stride():
        key_BHSK, value_BHSK = key_BHSK.contiguous(), value_BHSK.contiguous()
    mask_BTS = _rows_in_order(mask.float()[:, 0].expand(sentences, queries, length))
    context_BTD = query_BHTK.new_empty(sentences, queries, heads * size)
    job = _Attention(
        query_BHTK.data_ptr(),
        key_BHSK.data_ptr(),
        value_BHSK.data_ptr(),
        mask_BTS.data_ptr(),
        context_BTD.data_ptr(),
        sentences,
        heads,
        queries,
        length,
        size,
        *query_BHTK.stride()[:3],
        *key_BHSK.stride()[:3],
        *mask_BTS.stride()[:2],
        1 / math.sqrt(size),
        query_BHTK.dtype is torch.bfloat16,
        key_BHSK.dtype is torch.bfloat16,
    )
    if _function()(ctypes.byref(job), torch.get_num_threads()):
        raise MemoryError(f"attention of {sentences} x {queries} positions to {length}")
    return context_BTD


def _rows_in_order(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()

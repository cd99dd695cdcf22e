"""What a search asks of all logits, on a CPU; see vocabulary.c.

Shapes: N rows, V vocabulary, M whole blocks of it.
"""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from nmt.kernels.library import library


@cache
def _function() -> Any:
    loaded = library()
    if loaded is None:
        return None
    function = loaded.summarise_vocabulary
    function.argtypes = [*[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3, *[ctypes.c_int] * 2]
    function.restype = None
    return function


def can_summarise(logits: Tensor) -> bool:
    """Whether `summarise_vocabulary` is there and takes a tensor like this."""
    return (
        logits.device.type == "cpu"
        and logits.dtype in (torch.float32, torch.bfloat16)
        and logits.is_contiguous()
        and _function() is not None
    )


def summarise_vocabulary(logits_NV: Tensor, *, block: int) -> tuple[Tensor, Tensor]:
    """The greatest logit of each whole block [N, M], and the logarithm of the sum of all exponentials [N].

    In float32. Where a logit is no number, the sum is none.

    Args:
        block: logits in a block, a multiple of 16.
    """
    assert block % 16 == 0, "blocks are whole vectors"
    rows, vocabulary = logits_NV.shape
    maxima_NM = torch.empty(rows, vocabulary // block)
    log_sums_N = torch.empty(rows)
    _function()(
        logits_NV.data_ptr(),
        maxima_NM.data_ptr(),
        log_sums_N.data_ptr(),
        rows,
        vocabulary,
        block,
        logits_NV.dtype is torch.bfloat16,
        torch.get_num_threads(),
    )
    return maxima_NM, log_sums_N

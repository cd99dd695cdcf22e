"""What a search asks of all logits, on a CPU; see vocabulary.c.

Shapes: N rows of logits, B sentences, W beams, V vocabulary, M whole blocks of it, K best.
"""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from nmt.kernels.library import library


class _Choice(ctypes.Structure):
    """`choice` of vocabulary.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("logits", "offsets", "maxima", "values", "places")),
        *((name, ctypes.c_int64) for name in ("rows", "beams", "vocabulary", "block", "count")),
        ("is_bfloat16", ctypes.c_int),
    ]


@cache
def _functions() -> Any:
    loaded = library()
    if loaded is None:
        return None
    summarise, choose = loaded.summarise_vocabulary, loaded.choose_continuations
    summarise.argtypes = [*[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3, *[ctypes.c_int] * 2]
    choose.argtypes = [ctypes.POINTER(_Choice), ctypes.c_int]
    summarise.restype = choose.restype = None
    return summarise, choose


def can_search(logits: Tensor) -> bool:
    """Whether the functions below are there and take a tensor like this."""
    return (
        logits.device.type == "cpu"
        and logits.dtype in (torch.float32, torch.bfloat16)
        and logits.is_contiguous()
        and _functions() is not None
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
    summarise, _ = _functions()
    summarise(
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


def choose_continuations(
    logits_BWV: Tensor, offset_BW: Tensor, maxima_BWM: Tensor, *, block: int, count: int
) -> tuple[Tensor, Tensor]:
    """The `count` greatest sums of logit and offset, falling, and places (beam x V + piece), both [B, K].

    Of equals the lower place comes first. What is no number is never chosen; -inf at place 0 stands where
    there is nothing else.

    Args:
        maxima_BWM: of whole blocks, as `summarise_vocabulary` finds them.
    """
    rows, beams, vocabulary = logits_BWV.shape
    offset_BW, maxima_BWM = offset_BW.contiguous(), maxima_BWM.contiguous()
    values_BK = torch.empty(rows, count)
    places_BK = torch.empty(rows, count, dtype=torch.long)
    job = _Choice(
        logits_BWV.data_ptr(),
        offset_BW.data_ptr(),
        maxima_BWM.data_ptr(),
        values_BK.data_ptr(),
        places_BK.data_ptr(),
        rows,
        beams,
        vocabulary,
        block,
        count,
        logits_BWV.dtype is torch.bfloat16,
    )
    _, choose = _functions()
    choose(ctypes.byref(job), torch.get_num_threads())
    return values_BK, places_BK

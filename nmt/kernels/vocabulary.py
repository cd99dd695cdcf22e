"""What a search asks of all logits, on a CPU; see vocabulary.c.

Shapes: N rows of logits, B sentences, W beams, V vocabulary, M whole blocks of it, K best.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from nmt.kernels.library import function


class _Summary(ctypes.Structure):
    """`summary` of vocabulary.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("logits", "maxima", "log_sums")),
        *((name, ctypes.c_int64) for name in ("rows", "vocabulary", "block")),
        ("is_bfloat16", ctypes.c_int),
    ]


class _Choice(ctypes.Structure):
    """`choice` of vocabulary.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("logits", "offsets", "maxima", "values", "places")),
        *((name, ctypes.c_int64) for name in ("rows", "beams", "vocabulary", "block", "count")),
        ("is_bfloat16", ctypes.c_int),
    ]


def _summarise() -> Any:
    return function("summarise_vocabulary", _Summary)


def _choose() -> Any:
    return function("choose_continuations", _Choice)


def can_search(logits: Tensor) -> bool:
    """Whether the functions below are there and take a tensor like this."""
    return (
        logits.device.type == "cpu"
        and logits.dtype in (torch.float32, torch.bfloat16)
        and logits.is_contiguous()
        and _summarise() is not None
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
    job = _Summary(
        logits_NV.data_ptr(),
        maxima_NM.data_ptr(),
        log_sums_N.data_ptr(),
        rows,
        vocabulary,
        block,
        logits_NV.dtype is torch.bfloat16,
    )
    _summarise()(ctypes.byref(job), torch.get_num_threads())
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
    _choose()(ctypes.byref(job), torch.get_num_threads())
    return values_BK, places_BK

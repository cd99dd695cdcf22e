"""The most probable continuations of a sentence's beams, in as few passes over the vocabulary as it takes.

Shapes: B rows (sentences), W beams, V vocabulary, M blocks of the vocabulary, K best pieces.
"""

import torch
from torch import Tensor

from nmt.kernels.vocabulary import can_search, choose_continuations, summarise_vocabulary

# Pieces whose maximum is taken first when the best of a vocabulary are looked for.
_BLOCK = 64
# Beams looked at together on a CPU: the float32 copy of their logits stays in the processor's cache.
_CHUNK = 64


def best_pieces(
    logits_BWV: Tensor, log_probs_BW: Tensor, count: int, *, banned_ids: Tensor, end_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` most probable continuations of a sentence by one piece, over all its beams.

    Probabilities are the model's own, over the whole vocabulary, banned pieces included; float32, whatever
    the logits are. The logits are overwritten.

    Args:
        log_probs_BW: of the beams, to which those of the pieces are added; -inf for empty ones.

    Returns:
        Log-probabilities and places (beam x V + piece), in no order, [B, K], and the log-probability of each
        beam if it ended [B, W].
    """
    end_BW = logits_BWV[..., end_id].float()
    banned_BW = logits_BWV[..., banned_ids].float().logsumexp(-1)
    logits_BWV.index_fill_(2, banned_ids, -torch.inf)
    maxima_BWM, allowed_BW = _maxima_and_sums(logits_BWV)
    offset_BW = log_probs_BW - torch.logaddexp(allowed_BW, banned_BW)
    values_BK, places_BK = largest(logits_BWV, offset_BW, maxima_BWM, count)
    end_BW += offset_BW
    # What is no number is impossible, so that a search over broken weights ends.
    for log_probs in (values_BK, end_BW):
        log_probs.masked_fill_(log_probs.isnan(), -torch.inf)
    return values_BK, places_BK, end_BW


def _maxima_and_sums(logits_BWV: Tensor) -> tuple[Tensor, Tensor]:
    """The greatest logit of each whole block, and the logarithm of the sum of all exponentials [B, W].

    The sum comes from the softmax, whose greatest share is exp(greatest logit) / sum: one pass over the
    vocabulary where difference, exponential and sum are three.
    """
    logits_NV = logits_BWV.flatten(0, 1)
    shape = logits_BWV.shape[:2]
    if can_search(logits_NV):
        maxima_NM, sums_N = summarise_vocabulary(logits_NV, block=_BLOCK)
        return maxima_NM.view(*shape, -1), sums_N.view(shape)
    maxima, sums = [], []
    body = logits_NV.shape[1] // _BLOCK * _BLOCK
    size = _CHUNK if logits_NV.device.type == "cpu" else max(1, len(logits_NV))
    for chunk_nV in torch.split(logits_NV, size):
        values_nV = chunk_nV.float()
        maxima_nM = values_nV[:, :body].view(len(values_nV), -1, _BLOCK).amax(-1)
        largest_n = torch.cat((maxima_nM, values_nV[:, body:]), 1).amax(1)
        sums.append(largest_n - values_nV.softmax(-1).amax(1).log())
        maxima.append(maxima_nM)
    return torch.cat(maxima).view(*shape, -1), torch.cat(sums).view(shape)


def best_allowed(
    log_probs_BWV: Tensor, log_probs_BW: Tensor, count: int, *, end_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The same of log-probabilities, -inf for what is forbidden."""
    sums_BWV = log_probs_BWV + log_probs_BW.unsqueeze(-1)
    sums = sums_BWV.flatten(1)
    return *sums.topk(min(count, sums.shape[1]), sorted=False), sums_BWV[..., end_id]


def best_of_beams(log_probs_BWV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest values of every beam and their pieces, in no order, [B, W, K] each."""
    return log_probs_BWV.topk(min(count, log_probs_BWV.shape[2]), sorted=False)


def largest(logits_BWV: Tensor, offset_BW: Tensor, maxima_BWM: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest sums of logit and offset, or all, and places (beam x V + piece), both [B, K].

    Equal to `topk` over all beams and pieces and several times as fast: the winners lie in the `count` blocks
    with the greatest maxima, or in the tails that fill no block.
    """
    rows, beams, vocabulary = logits_BWV.shape
    if can_search(logits_BWV):
        count = min(count, beams * vocabulary)
        return choose_continuations(logits_BWV, offset_BW, maxima_BWM, block=_BLOCK, count=count)
    logits = logits_BWV.view(rows, -1)
    blocks = maxima_BWM.shape[2]
    device = logits.device
    if beams * blocks <= 2 * count:
        sums = (logits_BWV.float() + offset_BW.unsqueeze(-1)).view(rows, -1)
        return sums.topk(min(count, sums.shape[1]), sorted=False)
    block_BK = (maxima_BWM + offset_BW.unsqueeze(-1)).view(rows, -1).topk(count, sorted=False).indices
    first_BK = block_BK // blocks * vocabulary + block_BK % blocks * _BLOCK
    place = (first_BK.unsqueeze(-1) + torch.arange(_BLOCK, device=device)).view(rows, -1)
    if vocabulary > blocks * _BLOCK:
        tail = torch.arange(blocks * _BLOCK, vocabulary, device=device)
        tails = (torch.arange(beams, device=device)[:, None] * vocabulary + tail).flatten()
        place = torch.cat((place, tails.expand(rows, -1)), dim=1)
    sums = logits.gather(1, place).float() + offset_BW.gather(1, place // vocabulary)
    values_BK, chosen_BK = sums.topk(count, sorted=False)
    return values_BK, place.gather(1, chosen_BK)

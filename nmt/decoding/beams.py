"""The state of a beam search and its steps, each a pure function of tensors.

The *length* of a hypothesis, in penalty, limit and stopping rule, counts its END piece but not the
begin-of-sentence piece. `position` is the length so far, without the piece that the step adds.

Shapes: B sentences still searched, W beams, V vocabulary, K best pieces of one beam, C candidates of
a sentence (2W, best first), T longest maximum length.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Pieces whose maximum is taken first when the best of a vocabulary are looked for.
_BLOCK = 64


@dataclass(slots=True)
class Candidates:
    """Continuations of a sentence's beams, best first; -inf marks those that do not exist."""

    log_probs_BC: Tensor
    # The beam that is continued, and the piece it is continued with.
    origins_BC: Tensor
    ids_BC: Tensor


@dataclass(slots=True)
class Beams:
    """Hypotheses that still grow; log-probability -inf marks an empty beam."""

    log_probs_BW: Tensor
    pieces_BWT: Tensor
    # The newest piece, and the beam of the step before that it was added to.
    ids_BW: Tensor
    origins_BW: Tensor

    @classmethod
    def start(cls, sentences: int, width: int, longest: int, begin_id: int, device: torch.device) -> "Beams":
        """One empty hypothesis per sentence; the other beams are empty until the first step fills them."""
        log_probs_BW = torch.full((sentences, width), -torch.inf, device=device)
        log_probs_BW[:, 0] = 0
        ids_BW = torch.full((sentences, width), begin_id, device=device)
        pieces_BWT = torch.zeros(sentences, width, longest, dtype=torch.long, device=device)
        return cls(log_probs_BW, pieces_BWT, ids_BW, torch.zeros_like(ids_BW))

    def select(self, sentences: Tensor) -> "Beams":
        """The rows of these sentences."""
        return Beams(
            self.log_probs_BW[sentences],
            self.pieces_BWT[sentences],
            self.ids_BW[sentences],
            self.origins_BW[sentences],
        )


@dataclass(slots=True)
class Kept:
    """The best ended hypotheses so far, best first; score -inf marks an empty place."""

    scores_BW: Tensor
    log_probs_BW: Tensor
    lengths_BW: Tensor
    pieces_BWT: Tensor

    @classmethod
    def start(cls, sentences: int, width: int, longest: int, device: torch.device) -> "Kept":
        """Nothing kept yet."""
        scores_BW = torch.full((sentences, width), -torch.inf, device=device)
        pieces_BWT = torch.zeros(sentences, width, longest, dtype=torch.long, device=device)
        return cls(scores_BW, scores_BW.clone(), torch.ones_like(pieces_BWT[..., 0]), pieces_BWT)

    def select(self, sentences: Tensor) -> "Kept":
        """The rows of these sentences."""
        return Kept(
            self.scores_BW[sentences],
            self.log_probs_BW[sentences],
            self.lengths_BW[sentences],
            self.pieces_BWT[sentences],
        )


@dataclass(slots=True)
class Batch:
    """The sentences that are still searched."""

    # Their places in the caller's order.
    numbers: list[int]
    max_lengths_B: Tensor
    beams: Beams
    kept: Kept

    def select(self, rows: list[int]) -> "Batch":
        """The sentences in these rows."""
        index = torch.tensor(rows, dtype=torch.long, device=self.max_lengths_B.device)
        numbers = [self.numbers[row] for row in rows]
        return Batch(numbers, self.max_lengths_B[index], self.beams.select(index), self.kept.select(index))


def penalize(log_probs: Tensor, lengths: Tensor | int, exponent: float) -> Tensor:
    """Divide by ((5 + length) / 6) ^ exponent, which grows with length (Wu et al., 2016, equation 14)."""
    return log_probs / ((5 + lengths) / 6) ** exponent


def best_pieces(log_probs_BWV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest values of every beam and their pieces, in no order: [B, W, count] each.

    Equal to `topk` over the vocabulary and two to three times as fast on a CPU: the winners lie in
    the `count` blocks with the greatest maxima, or in the tail that fills no block.
    """
    vocabulary = log_probs_BWV.shape[-1]
    blocks = vocabulary // _BLOCK
    if blocks <= 2 * count:
        return log_probs_BWV.topk(min(count, vocabulary), sorted=False)
    body = log_probs_BWV[..., : blocks * _BLOCK].reshape(*log_probs_BWV.shape[:-1], blocks, _BLOCK)
    tail = log_probs_BWV[..., blocks * _BLOCK :]
    block_BWK1 = body.amax(dim=-1).topk(count, sorted=False).indices.unsqueeze(-1)
    finalists = torch.cat((body.take_along_dim(block_BWK1, dim=-2).flatten(-2), tail), dim=-1)
    values_BWK, places_BWK = finalists.topk(count, sorted=False)
    in_body_BWK = places_BWK < count * _BLOCK
    winner_BWK = block_BWK1.squeeze(-1).gather(-1, (places_BWK // _BLOCK).clamp(max=count - 1))
    ids_BWK = torch.where(
        in_body_BWK,
        winner_BWK * _BLOCK + places_BWK % _BLOCK,
        places_BWK + (blocks - count) * _BLOCK,
    )
    return values_BWK, ids_BWK


def expand(
    logits_BWV: Tensor, log_probs_BW: Tensor, *, must_end_B: Tensor, end_id: int, banned_ids: Tensor
) -> Candidates:
    """The 2W best continuations of each sentence: a beam ends in one way only, so W of them can go on.

    Probabilities are the model's own, over the whole vocabulary, banned pieces included. Where
    `must_end_B` is true, END is the only continuation. Of equals the lower beam, then the lower piece
    comes first (which of several pieces equal to the last that is looked at: as `topk` decides, by
    the beam's own logits alone).
    """
    beams = log_probs_BW.shape[1]
    # The fused kernel is faster than logsumexp over raw logits, which makes a copy of that size too.
    step_BWV = logits_BWV.log_softmax(dim=-1, dtype=torch.float32)
    end_BW = step_BWV[..., end_id].clone()
    step_BWV.index_fill_(-1, banned_ids, -torch.inf)
    step_BWK, ids_BWK = best_pieces(step_BWV, 2 * beams)
    # In the order of the pieces, so that the stable sort below breaks ties by beam and piece.
    ids_BWK, order_BWK = ids_BWK.sort(dim=-1)
    step_BWK = step_BWK.gather(-1, order_BWK).masked_fill_(must_end_B[:, None, None], -torch.inf)
    step_BWK[..., 0] = torch.where(must_end_B[:, None], end_BW, step_BWK[..., 0])
    ids_BWK[..., 0].masked_fill_(must_end_B[:, None], end_id)

    log_probs_BWK = log_probs_BW.unsqueeze(-1) + step_BWK
    log_probs_BC, order_BC = log_probs_BWK.flatten(1).sort(dim=-1, descending=True, stable=True)
    log_probs_BC, order_BC = log_probs_BC[:, : 2 * beams], order_BC[:, : 2 * beams]
    return Candidates(
        log_probs_BC=log_probs_BC,
        origins_BC=order_BC // ids_BWK.shape[-1],
        ids_BC=ids_BWK.flatten(1).gather(-1, order_BC),
    )


def keep(
    kept: Kept, beams: Beams, candidates: Candidates, *, position: int, end_id: int, exponent: float
) -> Kept:
    """Merge what ends at this position into the best W so far; of equals the older comes first.

    Only the best W candidates may end: an end from a lower rank is no result of a beam of width W.
    """
    width = beams.log_probs_BW.shape[1]
    log_probs_BW, ids_BW = candidates.log_probs_BC[:, :width], candidates.ids_BC[:, :width]
    length = position + 1
    scores_BW = penalize(log_probs_BW, length, exponent).masked_fill(ids_BW != end_id, -torch.inf)
    pieces_BWT = _follow(beams.pieces_BWT, candidates.origins_BC[:, :width])
    pieces_BWT[:, :, position] = end_id

    merged = torch.cat((kept.scores_BW, scores_BW), dim=1).sort(dim=1, descending=True, stable=True)
    order_BW = merged.indices[:, :width]
    return Kept(
        scores_BW=merged.values[:, :width],
        log_probs_BW=torch.cat((kept.log_probs_BW, log_probs_BW), dim=1).gather(1, order_BW),
        lengths_BW=torch.cat((kept.lengths_BW, torch.full_like(ids_BW, length)), dim=1).gather(1, order_BW),
        pieces_BWT=_follow(torch.cat((kept.pieces_BWT, pieces_BWT), dim=1), order_BW),
    )


def grow(beams: Beams, candidates: Candidates, *, position: int, end_id: int) -> Beams:
    """The best W candidates that do not end are the next beams."""
    width = beams.log_probs_BW.shape[1]
    ended_BC = candidates.ids_BC == end_id
    order_BW = ended_BC.byte().sort(dim=1, stable=True).indices[:, :width]
    ids_BW = candidates.ids_BC.gather(1, order_BW)
    origins_BW = candidates.origins_BC.gather(1, order_BW)
    pieces_BWT = _follow(beams.pieces_BWT, origins_BW)
    pieces_BWT[:, :, position] = ids_BW
    log_probs_BW = candidates.log_probs_BC.masked_fill(ended_BC, -torch.inf).gather(1, order_BW)
    return Beams(log_probs_BW, pieces_BWT, ids_BW, origins_BW)


def settled(kept: Kept, beams: Beams, *, max_lengths_B: Tensor, exponent: float) -> Tensor:
    """Which sentences are done [B]: nothing that still grows can beat the worst of W kept hypotheses.

    A log-probability can only fall and the penalty only grow, so no continuation of a beam scores
    above the beam's log-probability over the penalty of the greatest allowed length. A single beam
    is done at its first END: that is greedy search; the bound would let it look for a longer ending.
    """
    worst_B = kept.scores_BW[:, -1]
    reachable_B = penalize(beams.log_probs_BW.amax(dim=1), max_lengths_B, exponent)
    if kept.scores_BW.shape[1] == 1:
        return (worst_B > -torch.inf) | (reachable_B == -torch.inf)
    return worst_B >= reachable_B


def _follow(pieces_BWT: Tensor, origins_BW: Tensor) -> Tensor:
    """Row origins_BW[b, w] of each sentence, as a copy."""
    return pieces_BWT.gather(1, origins_BW.unsqueeze(-1).expand(-1, -1, pieces_BWT.shape[-1]))

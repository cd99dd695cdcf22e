"""Beam search over a step function: ids in, hypotheses out. Knows no model and no text.

Searched are the sequences of at most `max_lengths[b]` pieces that end with END. The *length* of a
hypothesis, in penalty, limit and stopping rule, counts its END but not the begin-of-sentence piece.

Shapes: B sentences still searched, W beams, V vocabulary, T longest maximum length.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from nmt.decoding.beams import Batch, Beams, Kept, expand, grow, keep, settled

# Done sentences leave the batch once they are one in so many of its rows: a departure copies the
# cache of all others, and until then a done sentence costs its share of every step.
_LEAVERS_SHARE = 8
# Steps between two questions "who is done?" on an accelerator, where the host waits for the answer.
_ACCELERATOR_STEPS_PER_CHECK = 4


class StepCache(Protocol):
    """What a decoder remembers between steps, one entry per beam of each sentence."""

    def reorder(self, origin_BW: Tensor) -> None:
        """Beam w of sentence b goes on from what beam origin_BW[b, w] of that sentence has seen."""

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences (row numbers), in that order."""


C = TypeVar("C", bound=StepCache)
# ids_BW, cache -> logits_BWV of the piece that follows.
Step = Callable[[Tensor, C], Tensor]


@dataclass(kw_only=True, slots=True)
class Hypothesis:
    """A sequence that the search has found."""

    # Without END.
    pieces: list[int]
    # Log-probability over length penalty.
    score: float
    # Natural logarithm of the sequence's probability, END included.
    log_probability: float
    # False when it is as long as allowed, where END was the only choice left.
    finished: bool


def advance(
    batch: Batch, logits_BWV: Tensor, *, position: int, exponent: float, end_id: int, banned_ids: Tensor
) -> Tensor:
    """One step of every sentence, in place -> which are done [B]."""
    candidates = expand(
        logits_BWV,
        batch.beams.log_probs_BW,
        must_end_B=batch.max_lengths_B <= position + 1,
        end_id=end_id,
        banned_ids=banned_ids,
    )
    batch.kept = keep(
        batch.kept, batch.beams, candidates, position=position, end_id=end_id, exponent=exponent
    )
    batch.beams = grow(batch.beams, candidates, position=position, end_id=end_id)
    done_B = settled(batch.kept, batch.beams, max_lengths_B=batch.max_lengths_B, exponent=exponent)
    # Without beams nothing can change the result of a done sentence until it leaves.
    batch.beams.log_probs_BW.masked_fill_(done_B[:, None], -torch.inf)
    return done_B


def beam_search(
    step: Step[C],
    cache: C,
    *,
    sentences: int,
    beam_size: int,
    length_penalty: float,
    max_lengths: Tensor,
    begin_id: int,
    end_id: int,
    banned_ids: Sequence[int],
    device: torch.device,
) -> list[list[Hypothesis]]:
    """Search all sentences at once -> up to `beam_size` distinct hypotheses of each, best first.

    `beam_size` 1 is greedy search. `cache` starts with `beam_size` beams per sentence; `max_lengths`
    [B], at least 1, are the greatest lengths; `length_penalty` is the exponent in `penalize`. Scores
    are float32. A sentence's result depends on its own logits alone, not on its neighbours.
    """
    if not sentences:
        return []
    longest = int(max_lengths.max())
    batch = Batch(
        numbers=list(range(sentences)),
        max_lengths_B=max_lengths.to(device),
        beams=Beams.start(sentences, beam_size, longest, begin_id, device),
        kept=Kept.start(sentences, beam_size, longest, device),
    )
    banned = torch.tensor(list(banned_ids), dtype=torch.long, device=device)
    results: dict[int, list[Hypothesis]] = {}
    for position in range(longest):
        logits_BWV = step(batch.beams.ids_BW, cache)
        done_B = advance(
            batch, logits_BWV, position=position, exponent=length_penalty, end_id=end_id, banned_ids=banned
        )
        if device.type == "cpu" or position % _ACCELERATOR_STEPS_PER_CHECK == 0 or position + 1 == longest:
            leaving, staying = _who_leaves(done_B.tolist())
            if leaving:
                results |= _read_out(batch.select(leaving))
            if not staying:
                break
            if leaving:
                cache.select(torch.tensor(staying, device=device))
                batch = batch.select(staying)
        # A single beam has nothing to reorder.
        if beam_size > 1:
            cache.reorder(batch.beams.origins_BW)
    # Nothing is found where the logits are no numbers.
    return [results.get(number, []) for number in range(sentences)]


def force_scores(
    step: Step[C],
    cache: C,
    hypotheses: Sequence[Sequence[Sequence[int]]],
    *,
    begin_id: int,
    end_id: int,
    device: torch.device,
) -> list[list[float]]:
    """Log-probability of each given hypothesis (pieces without END) followed by END.

    `hypotheses[b]` are as many as the cache has beams per sentence. Nothing is banned.
    """
    lengths_BW = torch.tensor([[len(h) + 1 for h in beams] for beams in hypotheses], device=device)
    longest = int(lengths_BW.max()) if lengths_BW.numel() else 0
    padded = [[[*h, *[end_id] * (longest - len(h))] for h in beams] for beams in hypotheses]
    pieces_BWT = torch.tensor(padded, dtype=torch.long, device=device)
    ids_BW = torch.full_like(lengths_BW, begin_id)
    total_BW = torch.zeros(lengths_BW.shape, device=device)
    for position in range(longest):
        log_probs_BWV = step(ids_BW, cache).log_softmax(dim=-1, dtype=torch.float32)
        ids_BW = pieces_BWT[:, :, position]
        chosen_BW = log_probs_BWV.gather(-1, ids_BW.unsqueeze(-1)).squeeze(-1)
        total_BW += torch.where(position < lengths_BW, chosen_BW, 0)
    scores: list[list[float]] = total_BW.tolist()
    return scores


def _who_leaves(done: list[bool]) -> tuple[list[int], list[int]]:
    """Rows of the done sentences that leave now, and of all that stay."""
    if sum(done) * _LEAVERS_SHARE < len(done):
        return [], list(range(len(done)))
    return [row for row, d in enumerate(done) if d], [row for row, d in enumerate(done) if not d]


def _read_out(batch: Batch) -> dict[int, list[Hypothesis]]:
    kept = batch.kept
    finished_BW = kept.lengths_BW < batch.max_lengths_B[:, None]
    columns = (kept.scores_BW, kept.log_probs_BW, kept.lengths_BW, kept.pieces_BWT, finished_BW)
    return {
        number: [
            Hypothesis(pieces=pieces[: length - 1], score=score, log_probability=log_prob, finished=finished)
            for score, log_prob, length, pieces, finished in zip(*places, strict=True)
            if score > -math.inf
        ]
        for number, *places in zip(batch.numbers, *(column.tolist() for column in columns), strict=True)
    }

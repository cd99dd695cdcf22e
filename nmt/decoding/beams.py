"""The state of a search and its steps, each a pure function of tensors.

The *length* of a hypothesis, in penalty, limit and stopping rule, counts its END piece but not the
begin-of-sentence piece. A row's *position* is the length of its growing hypotheses, without the piece that
the step adds; rows may differ in it.

Shapes: B rows (sentences), W beams, V vocabulary, K best pieces of one beam, C candidates of a sentence (2W,
best first), T room for the pieces of a hypothesis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.decoding.config import LengthPenalty, Stopping

# Pieces of room that are added to hypotheses at a time.
_ROOM = 32


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
    def start(cls, sentences: int, width: int, device: torch.device) -> "Beams":
        """Empty beams."""
        log_probs_BW = torch.full((sentences, width), -torch.inf, device=device)
        pieces_BWT = torch.zeros(sentences, width, _ROOM, dtype=torch.long, device=device)
        ids_BW = torch.zeros_like(pieces_BWT[..., 0])
        return cls(log_probs_BW, pieces_BWT, ids_BW, torch.zeros_like(ids_BW))

    def select(self, rows: Tensor) -> "Beams":
        """The beams of these rows."""
        return Beams(
            self.log_probs_BW.index_select(0, rows),
            self.pieces_BWT.index_select(0, rows),
            self.ids_BW.index_select(0, rows),
            self.origins_BW.index_select(0, rows),
        )

    def part(self, beams: slice) -> "Beams":
        """Some of the beams of every row."""
        return Beams(
            self.log_probs_BW[:, beams],
            self.pieces_BWT[:, beams],
            self.ids_BW[:, beams],
            self.origins_BW[:, beams],
        )

    @classmethod
    def joined(cls, parts: Sequence["Beams"]) -> "Beams":
        """The beams of all parts, the parts' rows being the same."""
        return cls(
            torch.cat([part.log_probs_BW for part in parts], dim=1),
            torch.cat([part.pieces_BWT for part in parts], dim=1),
            torch.cat([part.ids_BW for part in parts], dim=1),
            torch.cat([part.origins_BW for part in parts], dim=1),
        )

    def put(self, rows: Tensor, other: "Beams") -> None:
        """Replace the beams of these rows."""
        self.log_probs_BW[rows] = other.log_probs_BW
        self.pieces_BWT[rows] = _with_room(other.pieces_BWT, self.pieces_BWT.shape[-1])
        self.ids_BW[rows] = other.ids_BW
        self.origins_BW[rows] = other.origins_BW


@dataclass(slots=True)
class Kept:
    """The best ended hypotheses so far, best first; score -inf marks an empty place."""

    scores_BW: Tensor
    log_probs_BW: Tensor
    lengths_BW: Tensor
    pieces_BWT: Tensor

    @classmethod
    def start(cls, sentences: int, width: int, device: torch.device) -> "Kept":
        """Nothing kept yet."""
        scores_BW = torch.full((sentences, width), -torch.inf, device=device)
        pieces_BWT = torch.zeros(sentences, width, _ROOM, dtype=torch.long, device=device)
        return cls(scores_BW, scores_BW.clone(), torch.ones_like(pieces_BWT[..., 0]), pieces_BWT)

    def select(self, rows: Tensor) -> "Kept":
        """What is kept for these rows."""
        return Kept(
            self.scores_BW.index_select(0, rows),
            self.log_probs_BW.index_select(0, rows),
            self.lengths_BW.index_select(0, rows),
            self.pieces_BWT.index_select(0, rows),
        )

    def part(self, places: slice) -> "Kept":
        """Some of the places of every row."""
        return Kept(
            self.scores_BW[:, places],
            self.log_probs_BW[:, places],
            self.lengths_BW[:, places],
            self.pieces_BWT[:, places],
        )

    @classmethod
    def joined(cls, parts: Sequence["Kept"]) -> "Kept":
        """The places of all parts, the parts' rows being the same."""
        return cls(
            torch.cat([part.scores_BW for part in parts], dim=1),
            torch.cat([part.log_probs_BW for part in parts], dim=1),
            torch.cat([part.lengths_BW for part in parts], dim=1),
            torch.cat([part.pieces_BWT for part in parts], dim=1),
        )

    def put(self, rows: Tensor, other: "Kept") -> None:
        """Replace what is kept for these rows."""
        self.scores_BW[rows] = other.scores_BW
        self.log_probs_BW[rows] = other.log_probs_BW
        self.lengths_BW[rows] = other.lengths_BW
        self.pieces_BWT[rows] = _with_room(other.pieces_BWT, self.pieces_BWT.shape[-1])


@dataclass(slots=True)
class Batch:
    """The sentences that are searched at the moment."""

    # Which of all sentences it is that a row holds.
    numbers_B: Tensor
    positions_B: Tensor
    max_lengths_B: Tensor
    beams: Beams
    kept: Kept

    @classmethod
    def start(cls, max_lengths_B: Tensor, width: int, numbers_B: Tensor | None = None) -> "Batch":
        """Sentences of which nothing is known yet but their greatest lengths; they are the first ones
        unless `numbers_B` says which."""
        beams = Beams.start(len(max_lengths_B), width, max_lengths_B.device)
        kept = Kept.start(len(max_lengths_B), width, max_lengths_B.device)
        if numbers_B is None:
            numbers_B = torch.arange(len(max_lengths_B), device=max_lengths_B.device)
        return cls(numbers_B, torch.zeros_like(max_lengths_B), max_lengths_B, beams, kept)

    def select(self, rows: Tensor) -> "Batch":
        """The sentences in these rows."""
        return Batch(
            self.numbers_B.index_select(0, rows),
            self.positions_B.index_select(0, rows),
            self.max_lengths_B.index_select(0, rows),
            self.beams.select(rows),
            self.kept.select(rows),
        )

    def put(self, rows: Tensor, other: "Batch") -> None:
        """Put other sentences, no longer than those here, in these rows."""
        self.numbers_B[rows] = other.numbers_B
        self.positions_B[rows] = other.positions_B
        self.max_lengths_B[rows] = other.max_lengths_B
        self.beams.put(rows, other.beams)
        self.kept.put(rows, other.kept)

    def make_room(self, pieces: int) -> None:
        """Hypotheses of so many pieces fit."""
        room = self.beams.pieces_BWT.shape[-1]
        if pieces > room:
            self.beams.pieces_BWT = _with_room(self.beams.pieces_BWT, room + _ROOM)
            self.kept.pieces_BWT = _with_room(self.kept.pieces_BWT, room + _ROOM)


@dataclass(kw_only=True, slots=True, frozen=True)
class Penalty:
    """Makes hypotheses of different lengths comparable: log-probability over a power of the length."""

    formula: LengthPenalty = LengthPenalty.wu
    exponent: float = 0.6

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> Tensor:
        """Divide by ((5 + length) / 6) ^ exponent (Wu et al., 2016, equation 14), or by length ^ exponent."""
        base = (5 + lengths) / 6 if self.formula is LengthPenalty.wu else lengths
        return log_probs / base**self.exponent


def expand(
    pieces: tuple[Tensor, Tensor, Tensor], *, vocabulary: int, width: int, must_end_B: Tensor, end_id: int
) -> Candidates:
    """The 2 x `width` best continuations of each sentence: a beam ends in one way only, so `width` can go on.

    `pieces` are what `best_pieces` finds. Where `must_end_B` is true, END is the only continuation. Of equals
    the lower beam, then the lower piece comes first (which of several equal to the last one that is looked
    at: as `topk` decides).
    """
    values_BK, places_BK, end_BW = pieces
    ends_BW = torch.arange(end_BW.shape[1], device=end_BW.device) * vocabulary + end_id
    count = 2 * width
    values_BC = torch.where(must_end_B[:, None], _padded(end_BW, count), _padded(values_BK, count))
    places_BC = torch.where(
        must_end_B[:, None], F.pad(ends_BW, (0, count - len(ends_BW))), _padded(places_BK, count, 0)
    )
    # In the order of beams and pieces, so that the stable sort below breaks ties by them.
    places_BC, order_BC = places_BC.sort(dim=-1)
    values_BC, best_BC = values_BC.gather(1, order_BC).sort(dim=-1, descending=True, stable=True)
    places_BC = places_BC.gather(1, best_BC)
    return Candidates(values_BC, origins_BC=places_BC // vocabulary, ids_BC=places_BC % vocabulary)


def keep(
    kept: Kept,
    beams: Beams,
    candidates: Candidates,
    *,
    positions_B: Tensor,
    end_id: int,
    penalty: Penalty,
    bonus_BW: Tensor | None = None,
) -> Kept:
    """Merge what ends at this position into the best W so far; of equals the older comes first.

    Only the best W candidates may end: an end from a lower rank is no result of a beam of width W.
    `bonus_BW`, never above 0, is added to the score of what ends a beam.
    """
    width = kept.scores_BW.shape[1]
    log_probs_BW, ids_BW = candidates.log_probs_BC[:, :width], candidates.ids_BC[:, :width]
    length_BW = (positions_B + 1)[:, None].expand_as(ids_BW)
    scores_BW = penalty(log_probs_BW, length_BW).masked_fill(ids_BW != end_id, -torch.inf)
    if bonus_BW is not None:
        scores_BW = scores_BW + bonus_BW.gather(1, candidates.origins_BC[:, :width])
    pieces_BWT = _continue(beams.pieces_BWT, candidates.origins_BC[:, :width], ids_BW, positions_B)

    merged = torch.cat((kept.scores_BW, scores_BW), dim=1).sort(dim=1, descending=True, stable=True)
    order_BW = merged.indices[:, :width]
    return Kept(
        scores_BW=merged.values[:, :width],
        log_probs_BW=torch.cat((kept.log_probs_BW, log_probs_BW), dim=1).gather(1, order_BW),
        lengths_BW=torch.cat((kept.lengths_BW, length_BW), dim=1).gather(1, order_BW),
        pieces_BWT=_follow(torch.cat((kept.pieces_BWT, pieces_BWT), dim=1), order_BW),
    )


def grow(beams: Beams, candidates: Candidates, *, positions_B: Tensor, end_id: int) -> Beams:
    """The best W candidates that do not end are the next beams."""
    width = beams.log_probs_BW.shape[1]
    ended_BC = candidates.ids_BC == end_id
    order_BW = ended_BC.byte().sort(dim=1, stable=True).indices[:, :width]
    ids_BW = candidates.ids_BC.gather(1, order_BW)
    origins_BW = candidates.origins_BC.gather(1, order_BW)
    pieces_BWT = _continue(beams.pieces_BWT, origins_BW, ids_BW, positions_B)
    log_probs_BW = candidates.log_probs_BC.masked_fill(ended_BC, -torch.inf).gather(1, order_BW)
    return Beams(log_probs_BW, pieces_BWT, ids_BW, origins_BW)


def grow_each(beams: Beams, continuations: Candidates, *, positions_B: Tensor, end_id: int) -> Beams:
    """Beam w goes on with continuation w, or is empty where that ends."""
    ids_BW, origins_BW = continuations.ids_BC, continuations.origins_BC
    pieces_BWT = _continue(beams.pieces_BWT, origins_BW, ids_BW, positions_B)
    log_probs_BW = continuations.log_probs_BC.masked_fill(ids_BW == end_id, -torch.inf)
    return Beams(log_probs_BW, pieces_BWT, ids_BW, origins_BW)


def settled(
    kept: Kept, beams: Beams, *, max_lengths_B: Tensor, penalty: Penalty, stopping: Stopping
) -> Tensor:
    """Which sentences are done [B].

    A single beam is done at its first END: that is greedy search; a bound would let it look for a longer
    ending. Otherwise `Stopping.bound` asks that nothing that still grows can beat the worst of W kept
    hypotheses: a log-probability can only fall and the penalty only grow, so no continuation of a beam scores
    above the beam's log-probability over the penalty of the greatest allowed length. `Stopping.count` is
    content with W kept hypotheses.
    """
    worst_B = kept.scores_BW[:, -1]
    best_B = beams.log_probs_BW.amax(dim=1)
    if stopping is Stopping.count or kept.scores_BW.shape[1] == 1:
        return (worst_B > -torch.inf) | (best_B == -torch.inf)
    return worst_B >= penalty(best_B, max_lengths_B)


def _padded(values_BK: Tensor, count: int, filling: float = -torch.inf) -> Tensor:
    return F.pad(values_BK, (0, count - values_BK.shape[1]), value=filling)


def _with_room(pieces_BWT: Tensor, room: int) -> Tensor:
    return F.pad(pieces_BWT, (0, room - pieces_BWT.shape[-1]))


def _continue(pieces_BWT: Tensor, origins_BW: Tensor, ids_BW: Tensor, positions_B: Tensor) -> Tensor:
    """Row origins_BW[b, w] of each sentence with another piece at its position, as a copy."""
    place_BW1 = positions_B[:, None, None].expand(*ids_BW.shape, 1)
    return _follow(pieces_BWT, origins_BW).scatter_(2, place_BW1, ids_BW.unsqueeze(-1))


def _follow(pieces_BWT: Tensor, origins_BW: Tensor) -> Tensor:
    """Row origins_BW[b, w] of each sentence, as a copy."""
    return pieces_BWT.gather(1, origins_BW.unsqueeze(-1).expand(-1, -1, pieces_BWT.shape[-1]))

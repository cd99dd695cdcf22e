"""Lexical constraints: terms that every hypothesis has.

Beams are shared out among hypotheses that have come further and less far with their terms (dynamic beam
allocation: Post and Vilar, 2018, section 3; as tensors: Hu et al., 2019, section 3), so that a term is tried
everywhere and stays where it fits best. That alone promises nothing. What makes it certain: nothing ends
without its terms, and where the room left is what the missing terms take, only their pieces may follow.

A term is found where its pieces stand one behind the other and no word goes on behind them; how far a beam
has come is read off its pieces, so that a term counts as well where the model wrote it of its own accord.

Shapes: B rows, W beams, V vocabulary, N sentences, M terms of a sentence, L longest term, T pieces of a
hypothesis, C candidates of a sentence, G places where a term can stand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.decoding.beams import Batch, Candidates
from nmt.decoding.constraints.tables import NOTHING, padded

Terms = Sequence[Sequence[int]]


@dataclass(slots=True)
class _Progress:
    """How far hypotheses have come; X is W or C."""

    met_BXM: Tensor
    # Pieces of an unmet term that the hypothesis ends with.
    begun_BXM: Tensor
    # A term was met with the newest piece, unless the word goes on.
    pending_BX: Tensor

    def pieces(self, lengths_BM: Tensor) -> Tensor:
        """Pieces of terms that are there [B, X]."""
        met_BX = (lengths_BM.unsqueeze(1) * self.met_BXM).sum(-1)
        return met_BX + self.begun_BXM.amax(-1)


class RequiredTerms:
    """The terms of each sentence."""

    def __init__(
        self,
        terms: Sequence[Terms],
        device: torch.device,
        *,
        end_id: int,
        goes_on: Sequence[bool] | None = None,
    ) -> None:
        """
        Args:
            terms: of each sentence its terms, each as pieces, at least one.
            goes_on: of every piece of the vocabulary whether a word goes on through its beginning; no
                such piece may begin a term, nor follow one.
        """
        self.end_id = end_id
        self.goes_on_V = None if goes_on is None else torch.tensor(goes_on, device=device)
        unique = [list(dict.fromkeys(map(tuple, own))) for own in terms]
        most = max([1, *map(len, unique)])
        longest = max([1, *(len(term) for own in unique for term in own)])
        tables = [
            padded([*own, *[()] * (most - len(own))], device, filler=NOTHING, longest=longest)
            for own in unique
        ]
        self.pieces_NML = torch.stack(tables)
        self.lengths_NM = (self.pieces_NML != NOTHING).sum(-1)

    def restrict(self, allowed_BWV: Tensor, log_probs_BWV: Tensor, batch: Batch) -> None:
        """Forbid to end too early and to lengthen a term's last word; ask for terms where room runs out."""
        beams = allowed_BWV.shape[1]
        terms_BML, lengths_BM = self.pieces_NML[batch.numbers_B], self.lengths_NM[batch.numbers_B]
        progress = self._progress(batch.beams.pieces_BWT[:, :beams], batch.positions_B, terms_BML, lengths_BM)
        if self.goes_on_V is not None:
            allowed_BWV.masked_fill_(progress.pending_BX.unsqueeze(-1) & self.goes_on_V, -torch.inf)
        missing_BW = (lengths_BM.unsqueeze(1) * ~progress.met_BXM).sum(-1)
        allowed_BWV[..., self.end_id].masked_fill_(missing_BW > 0, -torch.inf)
        # Pieces that fit before END; a piece that is free takes one and may lose what is begun.
        room_B1 = (batch.max_lengths_B - 1 - batch.positions_B)[:, None]
        urgent_BW1 = ((missing_BW > 0) & (missing_BW >= room_B1)).unsqueeze(-1)
        next_BWM, wanted_BWM = self._next(progress, terms_BML, lengths_BM)
        furthest_BWM = progress.begun_BXM == progress.begun_BXM.amax(-1, keepdim=True)
        asked_BWM = wanted_BWM & (furthest_BWM | ~urgent_BW1)
        allowed_BWV.masked_fill_(urgent_BW1, -torch.inf)
        _copy_where(asked_BWM, next_BWM, log_probs_BWV, allowed_BWV)

    def candidates(
        self,
        pieces: tuple[Tensor, Tensor],
        allowed_BWV: Tensor,
        log_probs_BW: Tensor,
        batch: Batch,
        width: int,
    ) -> Candidates:
        """The 2 x `width` candidates that get a place, in the order in which they get it.

        Considered are the best pieces of every beam ([B, W, K] log-probabilities and ids) and the next
        pieces of its terms.
        """
        step_BWK, ids_BWK = pieces
        beams = allowed_BWV.shape[1]
        terms_BML, lengths_BM = self.pieces_NML[batch.numbers_B], self.lengths_NM[batch.numbers_B]
        progress = self._progress(batch.beams.pieces_BWT[:, :beams], batch.positions_B, terms_BML, lengths_BM)
        next_BWM, wanted_BWM = self._next(progress, terms_BML, lengths_BM)
        all_BWK = torch.cat((ids_BWK, next_BWM), dim=-1)
        known_BWM = _seen_before(all_BWK)[..., ids_BWK.shape[-1] :]
        next_steps_BWM = allowed_BWV.gather(2, next_BWM).masked_fill(~wanted_BWM | known_BWM, -torch.inf)
        log_probs_BWK = log_probs_BW.unsqueeze(-1) + torch.cat((step_BWK, next_steps_BWM), dim=-1)
        log_probs_BC, order_BC = log_probs_BWK.flatten(1).sort(dim=-1, descending=True, stable=True)
        found = Candidates(
            log_probs_BC=log_probs_BC,
            origins_BC=order_BC // all_BWK.shape[-1],
            ids_BC=all_BWK.flatten(1).gather(-1, order_BC),
        )
        return _allocate(found, self._banks(found, batch, terms_BML, lengths_BM), 2 * width)

    def _banks(self, found: Candidates, batch: Batch, terms_BML: Tensor, lengths_BM: Tensor) -> Tensor:
        """Pieces of terms that each candidate has [B, C], -1 for what does not exist."""
        history_BCT = batch.beams.pieces_BWT.gather(
            1, found.origins_BC.unsqueeze(-1).expand(-1, -1, batch.beams.pieces_BWT.shape[-1])
        )
        place_BC1 = batch.positions_B[:, None, None].expand(*found.ids_BC.shape, 1)
        history_BCT.scatter_(2, place_BC1, found.ids_BC.unsqueeze(-1))
        progress = self._progress(history_BCT, batch.positions_B + 1, terms_BML, lengths_BM)
        return progress.pieces(lengths_BM).masked_fill(found.log_probs_BC == -torch.inf, -1)

    def _progress(
        self, history_BXT: Tensor, positions_B: Tensor, terms_BML: Tensor, lengths_BM: Tensor
    ) -> _Progress:
        longest = terms_BML.shape[-1]
        # As many places in front as a term that has only begun needs, and one behind for what follows.
        padded_BXT = F.pad(history_BXT, (0, longest), value=NOTHING)
        inside_BT = torch.arange(padded_BXT.shape[-1], device=positions_B.device) < positions_B[:, None]
        padded_BXT = torch.where(inside_BT.unsqueeze(1), padded_BXT, NOTHING)
        windows_BXGL = padded_BXT.unfold(2, longest, 1)
        terms_B11ML = terms_BML[:, None, None]
        equal_BXGML = (windows_BXGL.unsqueeze(3) == terms_B11ML) & (terms_B11ML != NOTHING)
        # How many pieces of the term stand there from its first on.
        run_BXGM = equal_BXGML.long().cumprod(-1).sum(-1)
        lengths_B11M = lengths_BM[:, None, None]
        end_B1GM = (
            torch.arange(windows_BXGL.shape[2], device=positions_B.device)[None, None, :, None] + run_BXGM
        )
        at_end = end_B1GM == positions_B[:, None, None, None]
        complete_BXGM = (run_BXGM == lengths_B11M) & (lengths_B11M > 0)
        closed_BXM = (complete_BXGM & ~at_end & ~self._goes_on(padded_BXT, end_B1GM)).any(2)
        open_BXM = (complete_BXGM & at_end).any(2)
        met_BXM = closed_BXM | open_BXM
        begun_BXM = run_BXGM.where(at_end & ~complete_BXGM, 0).amax(2).masked_fill(met_BXM, 0)
        return _Progress(met_BXM, begun_BXM, pending_BX=(open_BXM & ~closed_BXM).any(-1))

    def _goes_on(self, padded_BXT: Tensor, places_BXGM: Tensor) -> Tensor:
        """Whether a word goes on through the pieces at these places."""
        if self.goes_on_V is None:
            return torch.zeros_like(places_BXGM, dtype=torch.bool)
        goes_on_BXT = self.goes_on_V[padded_BXT.clamp(min=0)] & (padded_BXT != NOTHING)
        places = places_BXGM.flatten(2).clamp(max=padded_BXT.shape[-1] - 1)
        return goes_on_BXT.gather(2, places).view(places_BXGM.shape)

    def _next(self, progress: _Progress, terms_BML: Tensor, lengths_BM: Tensor) -> tuple[Tensor, Tensor]:
        """The next piece of every term, and whether the term is still missing [B, W, M]."""
        terms_BWML = terms_BML.unsqueeze(1).expand(-1, progress.met_BXM.shape[1], -1, -1)
        next_BWM = terms_BWML.gather(3, progress.begun_BXM.unsqueeze(-1)).squeeze(-1).clamp(min=0)
        return next_BWM, ~progress.met_BXM & (lengths_BM > 0).unsqueeze(1)


def _copy_where(chosen_BWM: Tensor, ids_BWM: Tensor, source_BWV: Tensor, target_BWV: Tensor) -> None:
    """Copy the values of the chosen ids, of which several may be the same."""
    vocabulary = target_BWV.shape[-1]
    marked_BWV = torch.zeros(
        *target_BWV.shape[:2], vocabulary + 1, dtype=torch.bool, device=target_BWV.device
    ).scatter_(2, ids_BWM.masked_fill(~chosen_BWM, vocabulary), value=True)[..., :vocabulary]
    target_BWV.copy_(torch.where(marked_BWV, source_BWV, target_BWV))


def _seen_before(ids_BWK: Tensor) -> Tensor:
    """Whether the same id stands earlier in its beam."""
    equal_BWKK = ids_BWK.unsqueeze(-1) == ids_BWK.unsqueeze(-2)
    return equal_BWKK.tril(-1).any(-1)


def _allocate(found: Candidates, banks_BC: Tensor, count: int) -> Candidates:
    """The best of every bank, the fullest first, then the second best of every bank, and so on."""
    same_BCC = banks_BC.unsqueeze(-1) == banks_BC.unsqueeze(-2)
    rank_BC = same_BCC.tril(-1).sum(-1).masked_fill(banks_BC < 0, banks_BC.shape[1])
    steps_B1 = banks_BC.amax(-1, keepdim=True) + 2
    order_BC = (rank_BC * steps_B1 - banks_BC).sort(dim=-1, stable=True).indices[:, :count]
    chosen = Candidates(
        log_probs_BC=found.log_probs_BC.gather(1, order_BC),
        origins_BC=found.origins_BC.gather(1, order_BC),
        ids_BC=found.ids_BC.gather(1, order_BC),
    )
    lacking = count - order_BC.shape[1]
    return Candidates(
        F.pad(chosen.log_probs_BC, (0, lacking), value=-torch.inf),
        F.pad(chosen.origins_BC, (0, lacking)),
        F.pad(chosen.ids_BC, (0, lacking)),
    )

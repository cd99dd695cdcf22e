"""Sampling: every beam draws its pieces on its own.

Of the model's distribution at a temperature only the k most probable pieces (Fan et al., 2018, section 5.4)
or the fewest that together have a share p (Holtzman et al., 2020, section 3.1) are kept if that is asked for.
What is drawn depends on the seed, the sentence, the number of the sample and the position alone, not on
batch, order or worker.

Shapes: B rows, W beams (samples), V vocabulary, N sentences.
"""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nmt.decoding.beams import Batch, Candidates, grow_each, keep
from nmt.decoding.extension import SearchRules

# Of SplitMix64 (Steele et al., 2014), as the signed numbers that tensors have.
_INCREMENT = 0x9E3779B97F4A7C15 - (1 << 64)
_FACTORS = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))
# Random bits of a number between 0 and 1: the rarest pieces need small numbers.
_BITS = 40


@dataclass(frozen=True, slots=True)
class Distribution:
    """Which distribution is drawn from."""

    temperature: float = 1.0
    # 0 for all pieces.
    top_k: int = 0
    top_p: float = 1.0

    def shares(self, log_probs_BWV: Tensor) -> Tensor:
        """Chances of the pieces, up to a factor; all 0 where nothing is possible."""
        shares_BWV = (log_probs_BWV / self.temperature).softmax(-1).nan_to_num_(0.0)
        if 0 < self.top_k < shares_BWV.shape[-1]:
            best = shares_BWV.topk(self.top_k, dim=-1)
            shares_BWV = torch.zeros_like(shares_BWV).scatter_(-1, best.indices, best.values)
        if self.top_p < 1:
            ordered = shares_BWV.sort(dim=-1, descending=True, stable=True)
            whole = ordered.values.sum(-1, keepdim=True)
            before_BWV = ordered.values.cumsum(-1) - ordered.values
            kept_BWV = ordered.values.masked_fill(before_BWV >= self.top_p * whole, 0)
            shares_BWV = torch.zeros_like(shares_BWV).scatter_(-1, ordered.indices, kept_BWV)
        return shares_BWV


class Sampling:
    """Draws `beam_size` samples of every sentence."""

    def __init__(
        self,
        rules: SearchRules,
        distribution: Distribution,
        *,
        seed: int,
        keys: Sequence[int],
        device: torch.device,
    ) -> None:
        """`keys[n]` stands for sentence n: the same key, the same samples. See `sentence_key`."""
        self.rules, self.distribution = rules, distribution
        self.keys_N = _mix(torch.tensor(keys, dtype=torch.long, device=device) ^ _hash_number(seed))

    def __call__(
        self, batch: Batch, allowed_BWV: Tensor, log_probs_BWV: Tensor, bonus_BW: Tensor | None
    ) -> Tensor:
        """One piece more for every sample, in place -> which sentences are done [B]."""
        beams, end_id = batch.beams, self.rules.end_id
        samples = beams.log_probs_BW.shape[1]
        if allowed_BWV.shape[1] < samples:
            allowed_BWV = allowed_BWV.expand(-1, samples, -1)
            # All samples begin in the one beam of the first step.
            origins_BW = torch.zeros_like(beams.origins_BW)
            before_BW = beams.log_probs_BW[:, :1].expand(-1, samples)
        else:
            origins_BW = torch.arange(samples, device=allowed_BWV.device).repeat(len(allowed_BWV), 1)
            before_BW = beams.log_probs_BW
        shares_BWV = self.distribution.shares(allowed_BWV)
        ids_BW = draw(shares_BWV, self._uniforms(batch, samples, shares_BWV.shape[-1]))
        step_BW = allowed_BWV.gather(-1, ids_BW.unsqueeze(-1)).squeeze(-1)
        drawn = Candidates(before_BW + step_BW, origins_BW, ids_BW)
        positions_B = batch.positions_B
        batch.kept = keep(
            batch.kept,
            beams,
            drawn,
            positions_B=positions_B,
            end_id=end_id,
            penalty=self.rules.penalty,
            bonus_BW=bonus_BW,
        )
        batch.beams = grow_each(beams, drawn, positions_B=positions_B, end_id=end_id)
        batch.positions_B = positions_B + 1
        return batch.beams.log_probs_BW.amax(1) == -torch.inf

    def _uniforms(self, batch: Batch, samples: int, vocabulary: int) -> Tensor:
        """A number between 0 and 1 for each piece [B, W, V]."""
        sample_W = torch.arange(samples, device=self.keys_N.device)
        streams_BW = _mix(self.keys_N[batch.numbers_B][:, None] + sample_W * _INCREMENT)
        steps_BW = _mix(streams_BW + (batch.positions_B[:, None] + 1) * _INCREMENT)
        piece_V = torch.arange(1, vocabulary + 1, device=self.keys_N.device)
        bits_BWV = _mix(steps_BW.unsqueeze(-1) + piece_V * _INCREMENT)
        return (_shift(bits_BWV, 64 - _BITS).float() + 0.5) / (1 << _BITS)


def sentence_key(pieces: Sequence[int]) -> int:
    """A number for a sentence, the same wherever it stands: equal sentences have equal samples."""
    digest = hashlib.blake2b(array("q", pieces).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def draw(shares_BWV: Tensor, uniforms_BWV: Tensor) -> Tensor:
    """The piece of each beam whose exponential clock, as fast as its share, rings first.

    Another rounding of the shares changes a draw only where two clocks ring at once; a walk along the sum of
    shares would be off in the whole tail of a large vocabulary.
    """
    return (shares_BWV / -torch.log1p(-uniforms_BWV)).argmax(-1)


def _hash_number(number: int) -> int:
    return int(_mix(torch.tensor(number, dtype=torch.long) + _INCREMENT))


def _mix(numbers: Tensor) -> Tensor:
    """Numbers whose bits look unrelated, one for one (the finaliser of SplitMix64)."""
    numbers = (numbers ^ _shift(numbers, 30)) * _FACTORS[0]
    numbers = (numbers ^ _shift(numbers, 27)) * _FACTORS[1]
    return numbers ^ _shift(numbers, 31)


def _shift(numbers: Tensor, bits: int) -> Tensor:
    """Shift right with zeros."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)

"""What a decoder keeps between steps: keys and values of earlier positions and of the memory.

Rows are sentences; each has its own position, so that one may begin while others go on. A position has one
entry per beam, and entries are only ever added: which of them a beam descends from is a mask, and when beams
change places the mask is reordered instead of keys and values.

Shapes: B rows, W beam width, H heads, L entries (positions x W), S source length, K head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Positions allocated at first; the room doubles whenever it is used up.
INITIAL_CAPACITY = 32


@dataclass(slots=True)
class Places:
    """Where the entries of a step go: the same in every layer."""

    # Numbers of entries among all B x H x L of a layer, in the order B, H, W.
    entries: Tensor
    # Entries of a row that attention looks at.
    used: int


class LayerCache:
    """The cache of one decoder layer."""

    def __init__(self, memory_keys_BHSK: Tensor, memory_values_BHSK: Tensor, beam_size: int) -> None:
        batch, heads, _, size = memory_keys_BHSK.shape
        self.memory_keys_BHSK = memory_keys_BHSK
        self.memory_values_BHSK = memory_values_BHSK
        # Zeros, because what is masked is still multiplied.
        self.keys_BHLK = memory_keys_BHSK.new_zeros(batch, heads, INITIAL_CAPACITY * beam_size, size)
        self.values_BHLK = torch.zeros_like(self.keys_BHLK)
        # Of the newest step the mean over heads of the attention over the memory, if that is asked for.
        self.keeps_attention = False
        self.attention_BWS: Tensor | None = None

    def append(self, key_BHWK: Tensor, value_BHWK: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Add the entries of one position; returns keys and values of all entries used."""
        size = key_BHWK.shape[-1]
        self.keys_BHLK.view(-1, size).index_copy_(0, places.entries, key_BHWK.reshape(-1, size))
        self.values_BHLK.view(-1, size).index_copy_(0, places.entries, value_BHWK.reshape(-1, size))
        return self.keys_BHLK[:, :, : places.used], self.values_BHLK[:, :, : places.used]

    def grow(self, entries: int) -> None:
        """Make room for so many entries more."""
        batch, heads, _, size = self.keys_BHLK.shape
        room = self.keys_BHLK.new_zeros(batch, heads, entries, size)
        self.keys_BHLK = torch.cat([self.keys_BHLK, room], dim=2)
        self.values_BHLK = torch.cat([self.values_BHLK, room], dim=2)

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, in that order."""
        self.memory_keys_BHSK = self.memory_keys_BHSK[rows]
        self.memory_values_BHSK = self.memory_values_BHSK[rows]
        self.keys_BHLK = self.keys_BHLK[rows]
        self.values_BHLK = self.values_BHLK[rows]

    def admit(self, rows: Tensor, other: "LayerCache", used: int, length: int) -> None:
        """Put the rows of another cache in the place of `rows`: so many entries and source pieces of it."""
        self.memory_keys_BHSK[rows, :, :length] = other.memory_keys_BHSK[:, :, :length]
        self.memory_values_BHSK[rows, :, :length] = other.memory_values_BHSK[:, :, :length]
        self.keys_BHLK[rows, :, :used] = other.keys_BHLK[:, :, :used]
        self.values_BHLK[rows, :, :used] = other.values_BHLK[:, :, :used]


class DecoderCache:
    """The caches of all decoder layers and the masks that they share.

    Cross-attention keys and values are computed once per sentence and shared by its beams.
    """

    def __init__(self, layers: list[LayerCache], memory_mask_B11S: Tensor, beam_size: int) -> None:
        self.layers = layers
        self._memory_mask_B11S = memory_mask_B11S
        self.beam_size = beam_size
        keys_BHLK = layers[0].keys_BHLK
        self.forbidden = torch.finfo(keys_BHLK.dtype).min / 2
        # Added to scores: 0 for the entries that a beam descends from.
        self.ancestry_BWL = keys_BHLK.new_full(
            (len(keys_BHLK), beam_size, keys_BHLK.shape[2]), self.forbidden
        )
        # How many positions each row has.
        self.positions_B = torch.zeros(len(keys_BHLK), dtype=torch.long, device=keys_BHLK.device)
        # The most positions and the longest source that any row has: attention looks no further.
        self.longest = 0
        self.longest_source = memory_mask_B11S.shape[-1]

    @property
    def memory_mask(self) -> Tensor:
        """Added to the scores of cross-attention, [B, 1, 1, S] with the longest source."""
        return self._memory_mask_B11S[..., : self.longest_source]

    def keep_attention(self) -> None:
        """From now on `attention` is kept."""
        self.layers[-1].keeps_attention = True

    @property
    def attention(self) -> Tensor:
        """The last layer's attention in the newest step, mean of its heads [B, W, S]."""
        attention_BWS = self.layers[-1].attention_BWS
        assert attention_BWS is not None
        return attention_BWS

    def begin_step(self, beams: int) -> tuple[Places, Tensor]:
        """Open the next position for the first `beams` beams of all rows -> places, mask [B, 1, beams, L]."""
        width, (rows, heads, capacity, _) = self.beam_size, self.layers[0].keys_BHLK.shape
        if (self.longest + 1) * width > capacity:
            self._grow(capacity)
            capacity *= 2
        beam_W = torch.arange(beams, device=self.positions_B.device)
        entry_BW = self.positions_B[:, None] * width + beam_W
        self.ancestry_BWL[:, :beams].scatter_(2, entry_BW.unsqueeze(-1), 0)
        first_BH = torch.arange(rows * heads, device=entry_BW.device).view(rows, heads, 1) * capacity
        self.positions_B += 1
        self.longest += 1
        places = Places((first_BH + entry_BW[:, None]).flatten(), used=self.longest * width)
        return places, self.ancestry_BWL[:, None, :beams, : places.used]

    def _grow(self, entries: int) -> None:
        for layer in self.layers:
            layer.grow(entries)
        room = self.ancestry_BWL.new_full((*self.ancestry_BWL.shape[:2], entries), self.forbidden)
        self.ancestry_BWL = torch.cat([self.ancestry_BWL, room], dim=2)

    def reorder(self, origin_BW: Tensor) -> None:
        """Beam w of row b goes on from what beam `origin_BW[b, w]` has seen."""
        used = self.ancestry_BWL[:, :, : self.longest * self.beam_size]
        used.copy_(used.gather(1, origin_BW.unsqueeze(-1).expand_as(used)))

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, in that order; the others leave."""
        self._memory_mask_B11S = self._memory_mask_B11S[rows]
        self.ancestry_BWL = self.ancestry_BWL[rows]
        self.positions_B = self.positions_B[rows]
        for layer in self.layers:
            layer.select(rows)
        self._shorten()

    def admit(self, rows: Tensor, other: "DecoderCache") -> None:
        """Put other rows, with sources no longer than the first ones here, in the place of `rows`."""
        used, length = other.longest * self.beam_size, other.longest_source
        self._memory_mask_B11S[rows] = self.forbidden
        self._memory_mask_B11S[rows, ..., :length] = other.memory_mask
        self.ancestry_BWL[rows] = self.forbidden
        self.ancestry_BWL[rows, :, :used] = other.ancestry_BWL[..., :used]
        self.positions_B[rows] = other.positions_B
        for layer, others in zip(self.layers, other.layers, strict=True):
            layer.admit(rows, others, used, length)
        self._shorten()

    def _shorten(self) -> None:
        self.longest = int(self.positions_B.max())
        allowed_S = (self._memory_mask_B11S == 0).any(0).flatten()
        self.longest_source = int(allowed_S.sum())

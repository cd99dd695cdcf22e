"""What a decoder keeps between steps: keys and values of earlier positions and of the memory.

Rows are sentences, and one may begin while others go on. Every step writes an entry for each beam of each
row, and entries stay where they are: which of them a beam descends from is a mask, and when beams change
places the mask is reordered instead of keys and values. When the room is used up, entries that no beam
descends from any more make room: the beams of a sentence have most of their past in common, so that few
entries are left.

Keys lie transposed, and products read all of the room: memory in order is two to four times as fast on a CPU
as a part of a larger cache.

Shapes: B rows, W beam width, H heads, L entries, S source length, K head size.
"""

import torch
from torch import Tensor

# Steps for which room is made at a time: fewer mean more copies of the cache, more mean more that is empty.
STEPS_OF_ROOM = 4
# Lengths of the memory and of the room are multiples of these: a CPU writes code for every new shape of a
# product, and oneDNN keeps it for good.
MEMORY_STEP = 4
_ROOM_STEP = 8


class LayerCache:
    """The cache of one decoder layer."""

    def __init__(self, memory_keys_BHSK: Tensor, memory_values_BHSK: Tensor, dtype: torch.dtype) -> None:
        """`dtype` is that of all keys and values, and of the products with them."""
        batch, heads, _, size = memory_keys_BHSK.shape
        self.dtype = dtype
        self.memory_keys_BHKS = memory_keys_BHSK.transpose(2, 3).to(dtype).contiguous()
        self.memory_values_BHSK = memory_values_BHSK.to(dtype).contiguous()
        self.keys_BHKL = self.memory_keys_BHKS.new_empty(batch, heads, size, 0)
        self.values_BHLK = self.memory_keys_BHKS.new_empty(batch, heads, 0, size)
        # Of the newest step the mean over heads of the attention over the memory, if that is asked for.
        self.keeps_attention = False
        self.attention_BWS: Tensor | None = None

    def write(self, key_BHWK: Tensor, value_BHWK: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Write entries from number `first` on; returns keys [B, H, L, K] and values of all entries."""
        entries = slice(first, first + key_BHWK.shape[2])
        self.keys_BHKL[..., entries] = key_BHWK.transpose(2, 3)
        self.values_BHLK[:, :, entries] = value_BHWK
        return self.keys_BHKL.transpose(2, 3), self.values_BHLK

    def memory(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the memory, each [B, H, S, K]."""
        return self.memory_keys_BHKS.transpose(2, 3), self.memory_values_BHSK

    def keep_entries(self, entries_BL: Tensor, room: int) -> None:
        """Keep these entries of each row, and make room for so many more behind them: zeros, because what is
        masked is still multiplied."""
        batch, heads, size, length = self.keys_BHKL.shape
        kept = entries_BL.shape[1]
        keys_BHKL = self.keys_BHKL.new_zeros(batch, heads, size, kept + room)
        values_BHLK = self.values_BHLK.new_zeros(batch, heads, kept + room, size)
        if kept:
            index = entries_BL[:, None, None].expand(-1, heads, size, -1)
            keys_BHKL[..., :kept] = self.keys_BHKL.gather(3, index)
            first_BH1 = torch.arange(batch * heads, device=index.device).view(batch, heads, 1) * length
            flat = self.values_BHLK.view(-1, size)[(first_BH1 + entries_BL[:, None]).flatten()]
            values_BHLK[:, :, :kept] = flat.view(batch, heads, kept, size)
        self.keys_BHKL, self.values_BHLK = keys_BHKL, values_BHLK

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, in that order."""
        self.memory_keys_BHKS = self.memory_keys_BHKS[rows]
        self.memory_values_BHSK = self.memory_values_BHSK[rows]
        self.keys_BHKL = self.keys_BHKL[rows]
        self.values_BHLK = self.values_BHLK[rows]

    def admit(self, rows: Tensor, other: "LayerCache", entries: slice, others: slice) -> None:
        """Put rows of another cache, with these of its entries, in the place of `rows`."""
        length = other.memory_keys_BHKS.shape[3]
        self.memory_keys_BHKS[rows, :, :, :length] = other.memory_keys_BHKS
        self.memory_values_BHSK[rows, :, :length] = other.memory_values_BHSK
        self.keys_BHKL[rows, :, :, entries] = other.keys_BHKL[..., others]
        self.values_BHLK[rows, :, entries] = other.values_BHLK[:, :, others]

    def cut_memory(self, length: int) -> None:
        """Forget what lies behind the longest source."""
        self.memory_keys_BHKS = self.memory_keys_BHKS[..., :length].contiguous()
        self.memory_values_BHSK = self.memory_values_BHSK[:, :, :length].contiguous()


class DecoderCache:
    """The caches of all decoder layers and the masks that they share.

    Cross-attention keys and values are computed once per sentence and shared by its beams.
    """

    def __init__(self, layers: list[LayerCache], memory_mask_B11S: Tensor, beam_size: int) -> None:
        self.layers = layers
        self.beam_size = beam_size
        # Added to the scores of cross-attention.
        self.memory_mask_B11S = memory_mask_B11S
        rows = len(memory_mask_B11S)
        self.forbidden = torch.finfo(memory_mask_B11S.dtype).min / 2
        # Added to the scores of self-attention: 0 for the entries that a beam descends from.
        self.ancestry_BWL = memory_mask_B11S.new_empty(rows, beam_size, 0)
        own_WW = memory_mask_B11S.new_full((beam_size, beam_size), self.forbidden)
        self.own_WW = own_WW.fill_diagonal_(0)
        # Entries that are written, of those there is room for.
        self.used = 0
        # Positions of each row so far.
        self.positions_B = torch.zeros(rows, dtype=torch.long, device=memory_mask_B11S.device)
        # On the host: how many steps there were, and before which of them each row began.
        self.steps = 0
        self.began = [0] * rows

    @property
    def longest(self) -> int:
        """The most positions that any row has."""
        return self.steps - min(self.began)

    def keep_attention(self) -> None:
        """From now on `attention` is kept."""
        self.layers[-1].keeps_attention = True

    @property
    def attention(self) -> Tensor:
        """The last layer's attention in the newest step, mean of its heads [B, W, S]."""
        attention_BWS = self.layers[-1].attention_BWS
        assert attention_BWS is not None
        return attention_BWS

    def begin_step(self, beams: int) -> tuple[int, Tensor]:
        """Place for new entries -> the first, and the mask [B, 1, beams, L] of the first `beams` beams."""
        if self.used + self.beam_size > self.ancestry_BWL.shape[2]:
            self._make_room()
        first, self.used = self.used, self.used + self.beam_size
        self.ancestry_BWL[..., first : self.used] = self.own_WW
        self.positions_B = self.positions_B + 1
        self.steps += 1
        return first, self.ancestry_BWL[:, None, :beams]

    def _make_room(self) -> None:
        """Drop the entries that no beam descends from, as far as all rows have such."""
        alive_BL = (self.ancestry_BWL == 0).any(1)
        self.used = int(alive_BL.sum(1).max()) if alive_BL.shape[1] else 0
        entries_BL = alive_BL.byte().sort(dim=1, descending=True, stable=True).indices[:, : self.used]
        room = STEPS_OF_ROOM * self.beam_size
        room += -(self.used + room) % _ROOM_STEP
        mask = self.ancestry_BWL.gather(2, entries_BL[:, None].expand(-1, self.beam_size, -1))
        empty = mask.new_full((*mask.shape[:2], room), self.forbidden)
        self.ancestry_BWL = torch.cat([mask, empty], dim=2)
        for layer in self.layers:
            layer.keep_entries(entries_BL, room)

    def reorder(self, origin_BW: Tensor) -> None:
        """Beam w of row b goes on from what beam `origin_BW[b, w]` has seen."""
        self.ancestry_BWL = self.ancestry_BWL.gather(
            1, origin_BW.unsqueeze(-1).expand(-1, -1, self.ancestry_BWL.shape[2])
        )

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, in that order; the others leave."""
        self.memory_mask_B11S = self.memory_mask_B11S[rows]
        self.ancestry_BWL = self.ancestry_BWL[rows]
        self.positions_B = self.positions_B[rows]
        self.began = [self.began[row] for row in rows.tolist()]
        for layer in self.layers:
            layer.select(rows)
        self._cut_memory()

    def admit(self, rows: Tensor, other: "DecoderCache") -> None:
        """Put the rows of another cache, which had one step, in the place of `rows`, as if it were the newest
        step here. Its sources are no longer than the first ones were here."""
        assert other.steps == 1
        entries, others = slice(self.used - self.beam_size, self.used), slice(0, self.beam_size)
        self.memory_mask_B11S[rows] = self.forbidden
        self.memory_mask_B11S[rows, ..., : other.memory_mask_B11S.shape[-1]] = other.memory_mask_B11S
        self.ancestry_BWL[rows] = self.forbidden
        self.ancestry_BWL[rows, :, entries] = other.ancestry_BWL[..., others]
        self.positions_B[rows] = other.positions_B
        for row in rows.tolist():
            self.began[row] = self.steps - 1
        for layer, theirs in zip(self.layers, other.layers, strict=True):
            layer.admit(rows, theirs, entries, others)
        self._cut_memory()

    def _cut_memory(self) -> None:
        """Look at no more of the memory than the rows that are left need."""
        length = int((self.memory_mask_B11S == 0).any(0).sum())
        length += -length % MEMORY_STEP
        if length < self.memory_mask_B11S.shape[-1]:
            self.memory_mask_B11S = self.memory_mask_B11S[..., :length].contiguous()
            for layer in self.layers:
                layer.cut_memory(length)

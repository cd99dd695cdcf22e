"""What a decoder keeps between steps: keys and values of earlier positions and of the memory.

Rows are sentences, and one may begin while others go on. Every step writes an entry for each beam of each
row, and entries stay where they are: which of them a beam descends from is a mask, and when beams change
places the mask is reordered instead of keys and values. When the room is used up, entries that no beam
descends from any more make room: the beams of a sentence have most of their past in common, so that few
entries are left.

Keys and values lie in one tensor, an entry of a head in one piece: `index_select` moves such pieces seven to
ten times as fast as indexing or `gather`. Where PyTorch attends, its products read all of the room: memory in
order is two to four times as fast on a CPU as a part of a larger cache.

Shapes: P keys and values, B rows, W beam width, H heads, L entries, S source length, K head size.
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

    def __init__(self, memory_PBHSK: Tensor) -> None:
        """Its type is that of all keys and values."""
        self.memory_PBHSK = memory_PBHSK
        self.entries_PBHLK = memory_PBHSK[..., :0, :]
        # Of the newest step the mean over heads of the attention over the memory, if that is asked for.
        self.keeps_attention = False
        self.attention_BWS: Tensor | None = None

    def write(self, entries_PBHWK: Tensor, first: int) -> Tensor:
        """Write entries from number `first` on; returns all of them [P, B, H, L, K]."""
        self.entries_PBHLK[..., first : first + entries_PBHWK.shape[3], :] = entries_PBHWK
        return self.entries_PBHLK

    def begin(self, room: int) -> None:
        """Make room for the first entries: zeros, because what is masked is still multiplied."""
        pair, batch, heads, _, size = self.memory_PBHSK.shape
        self.entries_PBHLK = self.memory_PBHSK.new_zeros(pair, batch, heads, room, size)

    def keep_entries(self, entries_BL: Tensor) -> None:
        """Keep these entries of each row; one may be kept several times."""
        pair, batch, heads, length, size = self.entries_PBHLK.shape
        first_PBH1 = torch.arange(pair * batch * heads, device=entries_BL.device).view(pair, batch, heads, 1)
        places = (first_PBH1 * length + entries_BL[:, None]).flatten()
        kept = self.entries_PBHLK.view(-1, size).index_select(0, places)
        self.entries_PBHLK = kept.view(pair, batch, heads, -1, size)

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, in that order."""
        self.memory_PBHSK = self.memory_PBHSK.index_select(1, rows)
        self.entries_PBHLK = self.entries_PBHLK.index_select(1, rows)

    def admit(self, rows: Tensor, other: "LayerCache", entries: slice, others: slice) -> None:
        """Put rows of another cache, with these of its entries, in the place of `rows`."""
        length = other.memory_PBHSK.shape[3]
        self.memory_PBHSK[:, rows, :, :length] = other.memory_PBHSK
        self.entries_PBHLK[:, rows, :, entries] = other.entries_PBHLK[:, :, :, others]

    def cut_memory(self, length: int) -> None:
        """Forget what lies behind the longest source."""
        self.memory_PBHSK = self.memory_PBHSK[:, :, :, :length].contiguous()


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
        begins = alive_BL.shape[1] == 0
        self.used = 0 if begins else int(alive_BL.sum(1).max())
        room = STEPS_OF_ROOM * self.beam_size
        room += -(self.used + room) % _ROOM_STEP
        empty_BWR = self.ancestry_BWL.new_full((*self.ancestry_BWL.shape[:2], room), self.forbidden)
        if begins:
            self.ancestry_BWL = empty_BWR
            for layer in self.layers:
                layer.begin(room)
            return
        entries_BL = alive_BL.byte().sort(dim=1, descending=True, stable=True).indices[:, : self.used]
        mask_BWL = self.ancestry_BWL.gather(2, entries_BL[:, None].expand(-1, self.beam_size, -1))
        self.ancestry_BWL = torch.cat([mask_BWL, empty_BWR], dim=2)
        # Until it is written to, the room holds copies of an entry: a mask can cancel any finite number.
        entries_BL = torch.cat([entries_BL, entries_BL[:, :1].expand(-1, room)], dim=1)
        for layer in self.layers:
            layer.keep_entries(entries_BL)

    def reorder(self, origin_BW: Tensor) -> None:
        """Beam w of row b goes on from what beam `origin_BW[b, w]` has seen."""
        self.ancestry_BWL = self.ancestry_BWL.gather(
            1, origin_BW.unsqueeze(-1).expand(-1, -1, self.ancestry_BWL.shape[2])
        )

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, in that order; the others leave."""
        self.memory_mask_B11S = self.memory_mask_B11S.index_select(0, rows)
        self.ancestry_BWL = self.ancestry_BWL.index_select(0, rows)
        self.positions_B = self.positions_B.index_select(0, rows)
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

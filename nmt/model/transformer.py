"""The encoder-decoder Transformer (Vaswani et al., 2017) over packed or padded batches.

Shapes: B rows of a packed batch or sentences of a decoding batch, S source length, T target length,
W beam width, D model width, V vocabulary.

In a packed batch several sentences lie one behind the other in a row. `segments` number them from 1
within their row, 0 is padding; `positions` restart at 0 with each sentence. Source and target of a
sentence have the same row and the same segment number.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.model.attention import additive_mask
from nmt.model.cache import DecoderCache, LayerCache
from nmt.model.config import NormPlacement, TiedEmbeddings, TransformerConfig
from nmt.model.dropout import Dropout
from nmt.model.layers import DecoderLayer, EncoderLayer, PositionEncoding, make_norm
from nmt.model.linear import Linear

# Sources that a CPU encodes at a time, and of what their slots are a multiple: few different shapes.
_ROWS_ENCODED_TOGETHER = 32
_ENCODED_STEP = 2


class Transformer(nn.Module):
    """Encoder and decoder stacks with their embeddings and the output projection."""

    def __init__(
        self,
        config: TransformerConfig,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        pad_id: int = 0,
    ) -> None:
        """
        Raises:
            ValueError: all embeddings are tied but the vocabularies differ in size.
        """
        super().__init__()
        self.config = config
        self.pad_id = pad_id
        # Type of the keys and values that decoding keeps; None is that of the weights.
        self.cache_dtype: torch.dtype | None = None
        tied = config.tied_embeddings
        if tied is TiedEmbeddings.all and source_vocabulary_size != target_vocabulary_size:
            raise ValueError(
                "model.tied_embeddings=all needs one joint vocabulary, not"
                f" {source_vocabulary_size} and {target_vocabulary_size} pieces"
            )
        self.target_embedding = self._make_embedding(target_vocabulary_size)
        self.source_embedding = (
            self.target_embedding
            if tied is TiedEmbeddings.all
            else self._make_embedding(source_vocabulary_size)
        )
        self.output_projection = Linear(config.width, target_vocabulary_size, bias=False)
        if tied is TiedEmbeddings.none:
            nn.init.normal_(self.output_projection.weight, std=config.width**-0.5)
        else:
            self.output_projection.weight = self.target_embedding.weight
        self.source_positions = PositionEncoding(config)
        self.target_positions = PositionEncoding(config)
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        # Pre-norm leaves the residual stream unnormalised: one more norm closes each stack.
        pre = config.norm_placement is NormPlacement.pre
        self.encoder_norm = make_norm(config) if pre else nn.Identity()
        self.decoder_norm = make_norm(config) if pre else nn.Identity()

    def _make_embedding(self, vocabulary_size: int) -> nn.Embedding:
        embedding = nn.Embedding(vocabulary_size, self.config.width)
        # Scaled up by sqrt(D) when read (section 3.4 of the paper): unit variance beside positions.
        nn.init.normal_(embedding.weight, std=self.config.width**-0.5)
        return embedding

    def decoder_layers(self) -> Iterator[DecoderLayer]:
        """The decoder's layers, as what they are."""
        for layer in self.decoder:
            assert isinstance(layer, DecoderLayer)
            yield layer

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights and of the activations."""
        return self.target_embedding.weight.dtype

    @property
    def longest_source(self) -> int | None:
        """Longest source in pieces that the positions allow; None without a limit."""
        return self.config.max_positions if self.source_positions.learned else None

    def embed(
        self,
        ids: Tensor,
        embedding: nn.Embedding,
        encoding: PositionEncoding,
        positions: Tensor,
        longest: int,
    ) -> Tensor:
        """Embedding scaled by sqrt(D) plus position, with dropout: [..., D]."""
        vectors = F.embedding(ids, embedding.weight) * math.sqrt(self.config.width)
        return self.dropout(vectors + encoding(positions, longest).to(vectors.dtype))  # type: ignore[no-any-return]

    def encode(self, source_BS: Tensor, positions_BS: Tensor, mask: Tensor) -> Tensor:
        """Encoder output [B, S, D]; `mask` is additive and broadcasts to [B, H, S, S]."""
        hidden_BSD = self.embed(
            source_BS, self.source_embedding, self.source_positions, positions_BS, source_BS.shape[1]
        )
        for layer in self.encoder:
            hidden_BSD = layer(hidden_BSD, mask)
        encoded: Tensor = self.encoder_norm(hidden_BSD)
        return encoded

    def decode(
        self, target_BT: Tensor, positions_BT: Tensor, mask: Tensor, memory_BSD: Tensor, memory_mask: Tensor
    ) -> Tensor:
        """Decoder output [B, T, D], before the output projection."""
        hidden_BTD = self.embed(
            target_BT, self.target_embedding, self.target_positions, positions_BT, target_BT.shape[1]
        )
        for layer in self.decoder:
            hidden_BTD = layer(hidden_BTD, mask, memory_BSD, memory_mask)
        decoded: Tensor = self.decoder_norm(hidden_BTD)
        return decoded

    def forward(
        self,
        *,
        source_BS: Tensor,
        source_segments_BS: Tensor,
        source_positions_BS: Tensor,
        target_BT: Tensor,
        target_segments_BT: Tensor,
        target_positions_BT: Tensor,
    ) -> Tensor:
        """Logits [B, T, V] of a packed batch; `target_BT` is the decoder's input."""
        same_source = source_segments_BS[:, None, :, None] == source_segments_BS[:, None, None, :]
        same_target = target_segments_BT[:, None, :, None] == target_segments_BT[:, None, None, :]
        same_pair = target_segments_BT[:, None, :, None] == source_segments_BS[:, None, None, :]
        source_mask = additive_mask(same_source, self.dtype)
        # The lower triangle of the row is causal within each sentence too.
        target_mask = additive_mask(same_target.tril(), self.dtype)
        memory_mask = additive_mask(same_pair, self.dtype)
        memory_BSD = self.encode(source_BS, source_positions_BS, source_mask)
        hidden_BTD = self.decode(target_BT, target_positions_BT, target_mask, memory_BSD, memory_mask)
        logits_BTV: Tensor = self.output_projection(hidden_BTD)
        return logits_BTV

    def start_cache(self, source_BS: Tensor, *, beam_size: int) -> DecoderCache:
        """Encode padded sources and make the cache from which `step` decodes."""
        batch, longest = source_BS.shape
        mask_B11S = additive_mask((source_BS != self.pad_id)[:, None, None, :], torch.float32)
        positions_BS = torch.arange(longest, device=source_BS.device).expand_as(source_BS)
        shape = (2, batch, self.config.heads, longest, self.config.width // self.config.heads)
        dtype = self.cache_dtype or self.dtype
        caches = [LayerCache(torch.zeros(shape, dtype=dtype, device=source_BS.device)) for _ in self.decoder]
        for rows, length in self._encoded_together(source_BS):
            part = (rows, slice(length))
            memory_BSD = self.encode(source_BS[part], positions_BS[part], mask_B11S[rows, ..., :length])
            for layer, cache in zip(self.decoder_layers(), caches, strict=True):
                projected_PBHSK = layer.cross_attention.project_memory(memory_BSD)
                cache.memory_PBHSK[:, rows, :, :length] = projected_PBHSK
        return DecoderCache(caches, mask_B11S, beam_size)

    def _encoded_together(self, source_BS: Tensor) -> Iterator[tuple[slice, int]]:
        """Rows that the encoder takes at a time, and the slots that they need of all.

        A CPU, which takes as long for padding as for words, gets few rows, whose lengths are much the same if
        the sources are sorted; another device gets all.
        """
        batch, longest = source_BS.shape
        if source_BS.device.type != "cpu":
            yield slice(batch), longest
            return
        lengths = (source_BS != self.pad_id).sum(1).tolist()
        for first in range(0, batch, _ROWS_ENCODED_TOGETHER):
            rows = slice(first, first + _ROWS_ENCODED_TOGETHER)
            length = max(lengths[rows])
            yield rows, min(longest, length + -length % _ENCODED_STEP)

    def step(self, ids_BW: Tensor, cache: DecoderCache) -> Tensor:
        """Logits [B, W, V] of the position after `ids_BW`, the newest piece of every beam.

        Where there are fewer beams than the cache has room for, they are the first ones: the first step of
        a sentence needs only one.
        """
        positions_BW = cache.positions_B[:, None].expand_as(ids_BW)
        first_entry, mask_B1WL = cache.begin_step(ids_BW.shape[1])
        hidden_BWD = self.embed(
            ids_BW, self.target_embedding, self.target_positions, positions_BW, cache.longest
        )
        for layer, layer_cache in zip(self.decoder_layers(), cache.layers, strict=True):
            hidden_BWD = layer.step(hidden_BWD, layer_cache, first_entry, mask_B1WL, cache.memory_mask_B11S)
        logits_BWV: Tensor = self.output_projection(self.decoder_norm(hidden_BWD))
        return logits_BWV

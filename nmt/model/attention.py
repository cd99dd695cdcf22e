"""Scaled dot-product and multi-head attention (Vaswani et al., 2017, section 3.2).

Shapes: B rows of a packed batch or sentences, T query length, S key length, D model width,
H heads, K head size, W beam width, L entries of a cache.
"""

import math

import torch
from torch import Tensor, nn

from nmt.kernels.attention import attend, can_attend
from nmt.model.cache import LayerCache
from nmt.model.dropout import Dropout
from nmt.model.linear import Linear


def additive_mask(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask (True where attention is allowed) into one that is added to scores.

    The forbidden value is large but finite: a row that may attend to nothing (padding) then
    gives a uniform distribution instead of NaN.
    """
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min / 2)


def dot_product_attention(
    query_BHTK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask: Tensor | None, dropout: Dropout
) -> Tensor:
    """softmax(QK^T / sqrt(K) + mask) V, shape [B, H, T, K], with gradients.

    Plain matrix products: for sentences of some 25 tokens they beat PyTorch's fused kernels, whose tiles
    are longer than the sentences. `mask` is additive and broadcasts to [B, H, T, S].
    """
    return torch.matmul(dropout(attention_shares(query_BHTK, key_BHSK, mask)), value_BHSK)


def attention_shares(query_BHTK: Tensor, key_BHSK: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(QK^T / sqrt(K) + mask), shape [B, H, T, S], computed in the type of the mask.

    With a mask in float32 the short rows of decoding take a CPU a third of the time they take in bfloat16.
    """
    scale = 1 / math.sqrt(query_BHTK.shape[-1])
    scores_BHTS = torch.matmul(query_BHTK, key_BHSK.transpose(-2, -1))
    scores_BHTS = scores_BHTS * scale if mask is None else torch.add(mask, scores_BHTS, alpha=scale)
    return scores_BHTS.softmax(-1).to(query_BHTK.dtype)


def in_order(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in this type and contiguous, by one copy at most.

    `Tensor.to` returns a permuted tensor as it is if only its order has to change.
    """
    if tensor.dtype is dtype:
        return tensor.contiguous()
    return tensor.to(dtype, memory_format=torch.contiguous_format)


class MultiHeadAttention(nn.Module):
    """Self-attention, or cross-attention when it is given a memory.

    Query, key and value projections are stacked in one matrix [3D, D], as in
    `torch.nn.MultiheadAttention`, so that self-attention takes one product for the three.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.heads = heads
        self.in_projection = Linear(width, 3 * width)
        self.out_projection = Linear(width, width)
        self.dropout = Dropout(dropout)
        # The three blocks are initialised one by one: as one matrix they would start too small.
        for block in self.in_projection.weight.chunk(3):
            nn.init.xavier_uniform_(block)
        nn.init.xavier_uniform_(self.out_projection.weight)
        nn.init.zeros_(self.in_projection.bias)
        nn.init.zeros_(self.out_projection.bias)

    def forward(self, hidden_BTD: Tensor, mask: Tensor | None, memory_BSD: Tensor | None = None) -> Tensor:
        """Attend from every position of `hidden_BTD` to itself or to `memory_BSD`; returns [B, T, D]."""
        if memory_BSD is None:
            query, key, value = self.split_heads(self.in_projection(hidden_BTD), 3).unbind(0)
        else:
            query = self.project_query(hidden_BTD)
            key, value = self.project_memory(memory_BSD).unbind(0)
        return self.context(query, key, value, mask)

    def step(self, hidden_BWD: Tensor, cache: LayerCache, first_entry: int, mask_B1WL: Tensor) -> Tensor:
        """Self-attention of one new position per beam over those it descends from; writes to `cache`."""
        parts_3BHWK = self.split_heads(self.in_projection(hidden_BWD), 3)
        keys_BHLK, values_BHLK = cache.write(parts_3BHWK[1:], first_entry).unbind(0)
        return self.context(parts_3BHWK[0], keys_BHLK, values_BHLK, mask_B1WL)

    def step_memory(self, hidden_BWD: Tensor, cache: LayerCache, mask_B11S: Tensor) -> Tensor:
        """Cross-attention of one position per beam. The beams of a sentence lie in the query
        dimension, so that they share the sentence's keys and values."""
        query_BHWK = self.project_query(hidden_BWD)
        keys_BHSK, values_BHSK = cache.memory_PBHSK.unbind(0)
        if cache.keeps_attention:
            shares_BHWS = attention_shares(in_order(query_BHWK, keys_BHSK.dtype), keys_BHSK, mask_B11S)
            cache.attention_BWS = shares_BHWS.mean(1)
        return self.context(query_BHWK, keys_BHSK, values_BHSK, mask_B11S)

    def project_query(self, hidden_BTD: Tensor) -> Tensor:
        """Queries alone, [B, H, T, K]."""
        return self.split_heads(self.in_projection.part(hidden_BTD, 0, self.width), 1)[0]

    def project_memory(self, memory_BSD: Tensor) -> Tensor:
        """Keys and values of a memory, [2, B, H, S, K]."""
        return self.split_heads(self.in_projection.part(memory_BSD, self.width, 3 * self.width), 2)

    def split_heads(self, projected: Tensor, parts: int) -> Tensor:
        """[B, T, parts * D] -> [parts, B, H, T, K]."""
        batch, length, _ = projected.shape
        return projected.view(batch, length, parts, self.heads, -1).permute(2, 0, 3, 1, 4)

    def context(
        self, query_BHTK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The output projection, of the query's type, of what the heads find [B, T, D]."""
        trained = torch.is_grad_enabled() or (self.training and self.dropout.threshold > 0)
        if mask is not None and not trained and can_attend(query_BHTK, key_BHSK, mask):
            context_BTD = attend(query_BHTK, key_BHSK, value_BHSK, mask)
        else:
            ordered_BHTK = in_order(query_BHTK, key_BHSK.dtype)
            context_BHTK = dot_product_attention(ordered_BHTK, key_BHSK, value_BHSK, mask, self.dropout)
            # One copy for order and type.
            context_BTD = in_order(context_BHTK.transpose(1, 2), query_BHTK.dtype).flatten(2)
        output_BTD: Tensor = self.out_projection(context_BTD)
        return output_BTD

"""Embedding with positions, feed-forward block, and the encoder and decoder layers.

Shapes: B rows or sentences, T length, D model width, F feed-forward width, W beam width,
L entries of a cache.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.model.attention import MultiHeadAttention
from nmt.model.cache import LayerCache
from nmt.model.config import Activation, NormKind, NormPlacement, Positions, TransformerConfig
from nmt.model.dropout import Dropout
from nmt.model.linear import Linear


def sinusoids(length: int, width: int) -> Tensor:
    """Sinusoidal positions [length, width] (Vaswani et al., 2017, section 3.5).

    Sines fill the first half of the width and cosines the second, which only permutes the columns
    of the paper; other engines lay them out so.
    """
    if torch.get_default_device().type == "meta":
        # Only shapes are asked for, and PyTorch would import its compiler to find that of `exp`.
        return torch.empty(length, width)
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * -(math.log(10000) / half))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class PositionEncoding(nn.Module):
    """Position vectors, sinusoidal of any length or learned up to `max_positions`."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.width = config.width
        self.learned = config.positions is Positions.learned
        self.table: Tensor
        table = sinusoids(config.max_positions, config.width)
        if self.learned:
            self.table = nn.Parameter(torch.empty_like(table).normal_(std=config.width**-0.5))
        else:
            self.register_buffer("table", table, persistent=False)

    def forward(self, positions: Tensor, longest: int) -> Tensor:
        """Vectors of the given positions, all of them below `longest`.

        Raises:
            ValueError: a learned table has no such position.
        """
        if longest > self.table.shape[0]:
            if self.learned:
                raise ValueError(f"position {longest} is beyond model.max_positions={self.table.shape[0]}")
            grown = sinusoids(2 * longest, self.width)
            self.table = grown.to(self.table)
        return F.embedding(positions, self.table)


class FeedForward(nn.Module):
    """Two linear maps with a non-linearity between them; SwiGLU gates one map with another."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gated = config.activation is Activation.swiglu
        activations: dict[Activation, Callable[[Tensor], Tensor]] = {
            Activation.relu: F.relu,
            Activation.gelu: F.gelu,
            Activation.swiglu: F.silu,
        }
        self.activation = activations[config.activation]
        self.expand = Linear(config.width, config.feed_forward_width * (2 if self.gated else 1))
        self.contract = Linear(config.feed_forward_width, config.width)
        self.dropout = Dropout(config.activation_dropout)
        for block in self.expand.weight.chunk(2 if self.gated else 1):
            nn.init.xavier_uniform_(block)
        nn.init.xavier_uniform_(self.contract.weight)
        nn.init.zeros_(self.expand.bias)
        nn.init.zeros_(self.contract.bias)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        expanded_BTF = self.expand(hidden_BTD)
        if self.gated:
            gate_BTF, value_BTF = expanded_BTF.chunk(2, dim=-1)
            expanded_BTF = self.activation(gate_BTF) * value_BTF
        else:
            expanded_BTF = self.activation(expanded_BTF)
        contracted: Tensor = self.contract(self.dropout(expanded_BTF))
        return contracted


def make_norm(config: TransformerConfig) -> nn.Module:
    """The chosen normalisation over the width."""
    if config.norm is NormKind.rms_norm:
        return nn.RMSNorm(config.width, eps=1e-6)
    return nn.LayerNorm(config.width, eps=1e-5)


class Residual(nn.Module):
    """hidden + dropout(block(hidden)) with the norm before the block or after the sum."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = make_norm(config)
        self.dropout = Dropout(config.dropout)
        self.norm_first = config.norm_placement is NormPlacement.pre

    def forward(self, hidden: Tensor, block: Callable[[Tensor], Tensor]) -> Tensor:
        if self.norm_first:
            update: Tensor = self.dropout(block(self.norm(hidden)))
            # What the block has made is nobody else's.
            return hidden + update if torch.is_grad_enabled() else update.add_(hidden)
        normed: Tensor = self.norm(hidden + self.dropout(block(hidden)))
        return normed


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each in a residual."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config.width, config.heads, config.attention_dropout)
        self.attention_residual = Residual(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_residual = Residual(config)

    def forward(self, hidden_BSD: Tensor, mask: Tensor) -> Tensor:
        hidden_BSD = self.attention_residual(hidden_BSD, lambda normed: self.attention(normed, mask))
        output: Tensor = self.feed_forward_residual(hidden_BSD, self.feed_forward)
        return output


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention and feed-forward, each in a residual."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config.width, config.heads, config.attention_dropout)
        self.attention_residual = Residual(config)
        self.cross_attention = MultiHeadAttention(config.width, config.heads, config.attention_dropout)
        self.cross_attention_residual = Residual(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_residual = Residual(config)

    def forward(self, hidden_BTD: Tensor, mask: Tensor, memory_BSD: Tensor, memory_mask: Tensor) -> Tensor:
        hidden_BTD = self.attention_residual(hidden_BTD, lambda normed: self.attention(normed, mask))
        hidden_BTD = self.cross_attention_residual(
            hidden_BTD, lambda normed: self.cross_attention(normed, memory_mask, memory_BSD)
        )
        output: Tensor = self.feed_forward_residual(hidden_BTD, self.feed_forward)
        return output

    def step(
        self,
        hidden_BWD: Tensor,
        cache: LayerCache,
        first_entry: int,
        mask_B1WL: Tensor,
        memory_mask_B11S: Tensor,
    ) -> Tensor:
        """One new position of every beam, [B, W, D] -> [B, W, D]; appends to `cache`."""
        hidden_BWD = self.attention_residual(
            hidden_BWD, lambda normed: self.attention.step(normed, cache, first_entry, mask_B1WL)
        )
        hidden_BWD = self.cross_attention_residual(
            hidden_BWD, lambda normed: self.cross_attention.step_memory(normed, cache, memory_mask_B11S)
        )
        output: Tensor = self.feed_forward_residual(hidden_BWD, self.feed_forward)
        return output

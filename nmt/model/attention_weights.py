"""Attention weights of given sentence pairs, recomputed: the fast paths do not keep them.

One teacher-forced pass over padded sentences (Vaswani et al., 2017, section 3.2.3, names the three kinds of
attention). The weights are taken from what each attention block is given, in a copy of the model's structure
that shares its parameters: nothing is hooked into the model itself, which other threads may be using.

Shapes: B sentences, S source length, T target length, L layers, H heads, D model width, K head size.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nmt.model.attention import MultiHeadAttention
from nmt.model.layers import EncoderLayer
from nmt.model.teacher_forcing import forced_logits
from nmt.model.transformer import Transformer


@dataclass(slots=True)
class AttentionWeights:
    """Weights of one sentence pair in float32, without padding; each row sums to 1.

    Row t of the decoder's weights belongs to the step that reads piece t of the decoder's input (BEGIN at
    first) and predicts the piece after it.
    """

    encoder_LHSS: Tensor
    decoder_LHTT: Tensor
    cross_LHTS: Tensor


def attention_weights(
    model: Transformer, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, begin_id: int
) -> list[AttentionWeights]:
    """All weights of each pair, computed as one batch.

    Args:
        sources: pieces of each source, END included, as the encoder reads them.
        targets: pieces of each target, END included, as the decoder is to produce them.
        begin_id: the piece that the decoder reads first.

    Raises:
        LengthError: a sentence is longer than learned positions reach.
    """
    blocks = _Blocks.of(model)
    kept = _record(blocks, [*blocks.encoder, *blocks.decoder, *blocks.cross], sources, targets, begin_id)
    return [
        AttentionWeights(
            encoder_LHSS=_crop(kept, blocks.encoder, row, len(source), len(source)),
            decoder_LHTT=_crop(kept, blocks.decoder, row, len(target), len(target)),
            cross_LHTS=_crop(kept, blocks.cross, row, len(target), len(source)),
        )
        for row, (source, target) in enumerate(zip(sources, targets, strict=True))
    ]


def cross_attention_weights(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    begin_id: int,
    layers: Sequence[int],
) -> list[Tensor]:
    """Of each pair the cross-attention of these decoder layers [L, H, T, S]; see `attention_weights`."""
    blocks = _Blocks.of(model)
    chosen = [blocks.cross[layer] for layer in layers]
    kept = _record(blocks, chosen, sources, targets, begin_id)
    return [
        _crop(kept, chosen, row, len(target), len(source))
        for row, (source, target) in enumerate(zip(sources, targets, strict=True))
    ]


@dataclass(slots=True)
class _Blocks:
    """A copy of a model's structure, and its attention blocks from the first layer to the last."""

    model: Transformer
    encoder: list[MultiHeadAttention]
    decoder: list[MultiHeadAttention]
    cross: list[MultiHeadAttention]

    @classmethod
    def of(cls, model: Transformer) -> "_Blocks":
        # What the memo maps to itself is shared, not copied.
        shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
        twin = copy.deepcopy(model, shared).eval()
        # Nobody asks for logits here, and a large vocabulary makes them the dearest part.
        twin.add_module("output_projection", nn.Identity())
        layers = list(twin.decoder_layers())
        return cls(
            twin,
            [layer.attention for layer in twin.encoder if isinstance(layer, EncoderLayer)],
            [layer.attention for layer in layers],
            [layer.cross_attention for layer in layers],
        )


@torch.no_grad()
def _record(
    blocks: _Blocks,
    chosen: Sequence[MultiHeadAttention],
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    begin_id: int,
) -> dict[nn.Module, Tensor]:
    """Run the pairs through the copy; returns the weights of the chosen blocks, padding included."""
    kept: dict[nn.Module, Tensor] = {}

    def keep(block: nn.Module, given: tuple[Any, ...]) -> None:
        assert isinstance(block, MultiHeadAttention)
        kept[block] = block_weights(block, *given)

    for block in chosen:
        block.register_forward_pre_hook(keep)
    forced_logits(blocks.model, sources, targets, begin_id=begin_id)
    return kept


def block_weights(
    block: MultiHeadAttention, hidden_BTD: Tensor, mask: Tensor | None, memory_BSD: Tensor | None = None
) -> Tensor:
    """softmax(QK^T / sqrt(K) + mask) of what a block is called with, [B, H, T, S] in float32.

    Of the stacked projection it takes the whole and leaves out what it does not need: slower than the block
    itself, and right for whatever kind of linear map the projection is.
    """
    memory_BSD = hidden_BTD if memory_BSD is None else memory_BSD
    query_BTD = block.in_projection(hidden_BTD).chunk(3, dim=-1)[0]
    key_BSD = block.in_projection(memory_BSD).chunk(3, dim=-1)[1]
    query_BHTK, key_BHSK = (
        each.unflatten(-1, (block.heads, -1)).transpose(1, 2).float() for each in (query_BTD, key_BSD)
    )
    scores_BHTS = query_BHTK @ key_BHSK.transpose(-2, -1) / query_BHTK.shape[-1] ** 0.5
    if mask is not None:
        scores_BHTS = scores_BHTS + mask.float()
    weights_BHTS: Tensor = scores_BHTS.softmax(-1)
    return weights_BHTS


def _crop(
    kept: dict[nn.Module, Tensor], blocks: Sequence[MultiHeadAttention], row: int, queries: int, keys: int
) -> Tensor:
    return torch.stack([kept[block][row, :, :queries, :keys] for block in blocks]).cpu()

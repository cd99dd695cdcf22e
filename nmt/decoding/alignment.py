"""Word alignment read from cross-attention.

Shapes: S source pieces, T target pieces, END included in both.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nmt.data.tokenizer import BEGIN_ID, Tokenizer
from nmt.model.attention_weights import cross_attention_weights
from nmt.model.transformer import Transformer

# Pieces of both sides, padding included, that are aligned as one batch.
_MAX_TOKENS = 8192

Links = list[tuple[int, int]]


def default_layer(decoder_layers: int) -> int:
    """The decoder layer, from 0, that alignments are read from: the penultimate one.

    So Garg et al. (EMNLP 2019, section 4.1) for six layers; a single layer is its own choice.
    """
    return max(0, decoder_layers - 2)


def align(
    model: Transformer,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    layer: int | None = None,
) -> list[Links]:
    """Links (source word, target word) of each pair, words counted from 0 between blanks, by target word.

    Every target word is linked to the source word that it attends to most, and to nothing else; a pair
    with a blank side has no links. A target piece is what the decoder *reads* where its attention is taken
    (Chen et al., EMNLP 2020, "shift"), from the mean over the heads of one layer; a word's attention is the
    mean over its pieces of the sum over the source word's pieces. END is no word.

    Args:
        layer: the decoder layer, from 0; None takes `default_layer`.

    Raises:
        LengthError: a sentence is longer than learned positions reach.
        ValueError: there is no such layer.
    """
    count = model.config.decoder_layers
    chosen = default_layer(count) if layer is None else layer
    if not 0 <= chosen < count:
        raise ValueError(f"layer {chosen} is not one of the decoder's layers 0 to {count - 1}")
    source_pieces = tokenizer.encode_source(sources)
    target_pieces = tokenizer.encode_target(targets)
    links: list[Links] = [[] for _ in source_pieces]
    for batch in _batches([len(s) + len(t) for s, t in zip(source_pieces, target_pieces, strict=True)]):
        weights = cross_attention_weights(
            model,
            [source_pieces[number] for number in batch],
            [target_pieces[number] for number in batch],
            begin_id=BEGIN_ID,
            layers=[chosen],
        )
        for number, weights_LHTS in zip(batch, weights, strict=True):
            links[number] = best_links(
                # The first step reads BEGIN, the last column is the source's END.
                weights_LHTS[0].mean(dim=0)[1:, :-1],
                tokenizer.words_source(sources[number]),
                tokenizer.words_target(targets[number]),
            )
    return links


def best_links(weights_TS: Tensor, source_words: Sequence[int], target_words: Sequence[int]) -> Links:
    """The link of each target word, given the weights of its pieces and the word of every piece."""
    if not source_words or not target_words:
        return []
    source_count = source_words[-1] + 1
    by_word = weights_TS.new_zeros(target_words[-1] + 1, source_count)
    merged = weights_TS.new_zeros(len(target_words), source_count)
    merged.index_add_(1, torch.tensor(source_words), weights_TS)
    # The mean over a word's pieces has its maximum where the sum has it.
    by_word.index_add_(0, torch.tensor(target_words), merged)
    best: list[int] = by_word.argmax(dim=1).tolist()
    return [(best[word], word) for word in sorted(set(target_words))]


def pharaoh(links: Links) -> str:
    """The usual notation: "0-0 1-2" for source word - target word."""
    return " ".join(f"{source}-{target}" for source, target in links)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of sentences of similar lengths."""
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    start = 0
    while start < len(order):
        end = start + max(1, _MAX_TOKENS // lengths[order[start]])
        yield order[start:end]
        start = end

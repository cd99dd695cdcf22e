"""What a model attends to in a sentence pair: maps of weights between pieces or words.

Words are what stands between blanks. The weight from a word to a word is the mean over the pieces of the
attending word of the sum over the pieces of the word attended to: rows still sum to 1.

Shapes: L layers, H heads, Q positions that attend, K positions attended to; R rows and C columns of a map.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmt.data.tokenizer import BEGIN_ID, Tokenizer
from nmt.evaluation.attention_labels import printable
from nmt.evaluation.config import AttentionKind, AttentionMapConfig, Units
from nmt.model.attention_weights import attention_weights
from nmt.model.transformer import Transformer

BEGIN, END = "<s>", "</s>"


class AttentionMapError(ValueError):
    """A map that this model does not have; the message names the setting and what is allowed."""


@dataclass(slots=True)
class Axis:
    """The positions along one side of the weights."""

    pieces: list[str]
    # The word of each piece; BEGIN and END are words of their own.
    words: list[int]
    # The writing of each word.
    names: list[str]

    @classmethod
    def of(cls, pieces: Sequence[str], words: Sequence[int], text: str, *, begin: bool, end: bool) -> "Axis":
        """Pieces of a text, with BEGIN before or END behind them."""
        names = text.split()
        # Words that normalisation has dropped have no piece, and no place on the axis.
        numbers = {word: number for number, word in enumerate(dict.fromkeys(words), start=int(begin))}
        found = cls(
            [printable(piece) for piece in pieces],
            [numbers[word] for word in words],
            [printable(names[word]) if names else "" for word in numbers],
        )
        if begin:
            found = cls([BEGIN, *found.pieces], [0, *found.words], [BEGIN, *found.names])
        if end:
            found = cls([*found.pieces, END], [*found.words, len(found.names)], [*found.names, END])
        return found

    def labels(self, units: Units) -> list[str]:
        """What is written along a map."""
        return self.pieces if units is Units.pieces else self.names

    def groups(self, units: Units) -> NDArray[np.float32]:
        """1 where a position [row] belongs to a label [column]."""
        numbers = list(range(len(self.pieces))) if units is Units.pieces else self.words
        return np.eye(len(self.labels(units)), dtype=np.float32)[numbers]


@dataclass(slots=True)
class AttentionMap:
    """Weights with what stands on their axes."""

    title: str
    rows: list[str]
    columns: list[str]
    weights_RC: NDArray[np.float32]
    # False where the mask forbids attention, as to later positions in the decoder.
    allowed_RC: NDArray[np.bool_]


@dataclass(slots=True)
class PairAttention:
    """All attention of a sentence pair."""

    weights_LHQK: dict[AttentionKind, NDArray[np.float32]]
    axes: dict[AttentionKind, tuple[Axis, Axis]]

    @classmethod
    def of(cls, model: Transformer, tokenizer: Tokenizer, source: str, target: str) -> "PairAttention":
        """Computed by one pass in which the decoder reads `target`.

        Raises:
            LengthError: a text is longer than learned positions reach.
        """
        (found,) = attention_weights(
            model, tokenizer.encode_source([source]), tokenizer.encode_target([target]), begin_id=BEGIN_ID
        )
        pieces, words = tokenizer.pieces_target(target), tokenizer.words_target(target)
        # What the decoder reads, and what it writes.
        read = Axis.of(pieces, words, target, begin=True, end=False)
        written = Axis.of(pieces, words, target, begin=False, end=True)
        source_axis = Axis.of(
            tokenizer.pieces_source(source), tokenizer.words_source(source), source, begin=False, end=True
        )
        return cls(
            {
                AttentionKind.encoder: found.encoder_LHSS.numpy(),
                AttentionKind.decoder: found.decoder_LHTT.numpy(),
                AttentionKind.cross: found.cross_LHTS.numpy(),
            },
            {
                AttentionKind.encoder: (source_axis, source_axis),
                AttentionKind.decoder: (read, read),
                AttentionKind.cross: (written, source_axis),
            },
        )

    def maps(self, config: AttentionMapConfig) -> list[list[AttentionMap]]:
        """The maps that `config` asks for, a row for each layer and a column for each head.

        Raises:
            AttentionMapError: there is no such layer or head.
        """
        weights_LHQK = self.weights_LHQK[config.attention]
        layers, heads = weights_LHQK.shape[:2]
        return [
            [
                self._map(
                    config, f"{layer_name}, {head_name}", weights_LHQK[layer][:, head].mean(axis=(0, 1))
                )
                for head_name, head in _choices("head", config.head, heads)
            ]
            for layer_name, layer in _choices("layer", config.layer, layers)
        ]

    def _map(self, config: AttentionMapConfig, title: str, weights_QK: NDArray[np.float32]) -> AttentionMap:
        rows, columns = self.axes[config.attention]
        row_groups, column_groups = rows.groups(config.units), columns.groups(config.units)
        allowed_QK = np.ones_like(weights_QK)
        if config.attention is AttentionKind.decoder:
            allowed_QK = np.tril(allowed_QK)
        return AttentionMap(
            title,
            rows.labels(config.units),
            columns.labels(config.units),
            (row_groups / row_groups.sum(axis=0)).T @ weights_QK @ column_groups,
            row_groups.T @ allowed_QK @ column_groups > 0,
        )


def _choices(name: str, wanted: str, count: int) -> Iterator[tuple[str, list[int]]]:
    """Title and numbers, from 0, of each layer or head, or of all together."""
    if wanted == "all":
        yield from ((f"{name} {number + 1}", [number]) for number in range(count))
    elif wanted == "mean":
        yield (f"{name} 1" if count == 1 else f"mean of {count} {name}s"), list(range(count))
    elif int(wanted) > count:
        raise AttentionMapError(f"{name}={wanted}: there are {count}; allowed: 1 to {count}, mean, all")
    else:
        yield f"{name} {wanted}", [int(wanted) - 1]

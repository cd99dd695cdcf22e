"""Attention maps small enough to be in a page by the dozen.

Shapes: L layers, R target words, C source words.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmt.evaluation.attention_maps import PairAttention
from nmt.evaluation.config import AttentionKind, AttentionMapConfig, Units

# Words of a side; a map of more cannot be read, and takes the room of hundreds.
LONGEST = 60


@dataclass(kw_only=True, slots=True)
class CompactMap:
    """Cross-attention of a sentence pair between words, the mean over the heads of each layer."""

    rows: list[str]
    columns: list[str]
    layers: int
    # L x R x C weights, 0 to 255 for 0 to 1, in base64.
    weights: str

    @classmethod
    def of(cls, attention: PairAttention) -> "CompactMap":
        """The map of a pair."""
        config = AttentionMapConfig(
            attention=AttentionKind.cross, layer="all", head="mean", units=Units.words
        )
        layers = [row[0] for row in attention.maps(config)]
        weights_LRC = np.stack([each.weights_RC for each in layers])
        levels_LRC = np.clip(np.rint(255 * weights_LRC), 0, 255).astype(np.uint8)
        return cls(
            rows=layers[0].rows,
            columns=layers[0].columns,
            layers=len(layers),
            weights=base64.b64encode(levels_LRC.tobytes()).decode("ascii"),
        )

    def as_json(self) -> dict[str, Any]:
        """As the page reads it."""
        return {"r": self.rows, "c": self.columns, "l": self.layers, "w": self.weights}


def fits(source: str, target: str) -> bool:
    """Whether a map of the pair would be of any use: not blank, and not too long to look at."""
    return all(0 < len(text.split()) <= LONGEST for text in (source, target))


def chosen_places(order: Sequence[int], shown: Iterable[int], count: int) -> list[int]:
    """Sentences that get a map: half of `count` from the top of the page's list, half of the worst.

    Args:
        order: places of all sentences, the worst first.
        shown: places of the sentences that are listed, in the order of the list.
    """
    listed = list(shown)
    known = set(listed)
    chosen = dict.fromkeys([place for place in order if place in known][: count // 2])
    for place in listed:
        if len(chosen) >= count:
            break
        chosen.setdefault(place)
    return sorted(chosen)

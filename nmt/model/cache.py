"""What a decoder keeps between steps: keys and values of earlier positions and of the memory.

Shapes: L layers, B sentences, W beam width, H heads, T target length so far, S source length, K head size.
"""

import torch
from torch import Tensor

# Positions allocated at first; the room doubles whenever it is used up.
INITIAL_CAPACITY = 32


class LayerCache:
    """The cache of one decoder layer."""

    def __init__(self, memory_keys_BHSK: Tensor, memory_values_BHSK: Tensor, beam_size: int) -> None:
        batch, heads, _, size = memory_keys_BHSK.shape
        self.memory_keys_BHSK = memory_keys_BHSK
        self.memory_values_BHSK = memory_values_BHSK
        self.keys_BWHTK = memory_keys_BHSK.new_empty(batch, beam_size, heads, INITIAL_CAPACITY, size)
        self.values_BWHTK = torch.empty_like(self.keys_BWHTK)
        self.length = 0

    def append(self, key_BWH1K: Tensor, value_BWH1K: Tensor) -> tuple[Tensor, Tensor]:
        """Add one position to every beam; returns keys and values of all positions so far."""
        if self.length == self.keys_BWHTK.shape[3]:
            self.keys_BWHTK = torch.cat([self.keys_BWHTK, torch.empty_like(self.keys_BWHTK)], dim=3)
            self.values_BWHTK = torch.cat([self.values_BWHTK, torch.empty_like(self.values_BWHTK)], dim=3)
        self.keys_BWHTK[:, :, :, self.length] = key_BWH1K[:, :, :, 0]
        self.values_BWHTK[:, :, :, self.length] = value_BWH1K[:, :, :, 0]
        self.length += 1
        return self.keys_BWHTK[:, :, :, : self.length], self.values_BWHTK[:, :, :, : self.length]

    def reorder(self, sentence_B1: Tensor, origin_BW: Tensor) -> None:
        """Beam w of sentence b continues the old beam `origin_BW[b, w]`."""
        used = slice(0, self.length)
        self.keys_BWHTK[:, :, :, used] = self.keys_BWHTK[sentence_B1, origin_BW, :, used]
        self.values_BWHTK[:, :, :, used] = self.values_BWHTK[sentence_B1, origin_BW, :, used]

    def select(self, sentences: Tensor) -> None:
        """Keep the given sentences, in that order."""
        self.memory_keys_BHSK = self.memory_keys_BHSK[sentences]
        self.memory_values_BHSK = self.memory_values_BHSK[sentences]
        self.keys_BWHTK = self.keys_BWHTK[sentences]
        self.values_BWHTK = self.values_BWHTK[sentences]


class DecoderCache:
    """The caches of all decoder layers and the mask of the memory.

    Cross-attention keys and values are computed once per sentence and shared by its beams.
    """

    def __init__(self, layers: list[LayerCache], memory_mask_B11S: Tensor) -> None:
        self.layers = layers
        self.memory_mask_B11S = memory_mask_B11S

    @property
    def length(self) -> int:
        """Target positions seen so far."""
        return self.layers[0].length

    def reorder(self, origin_BW: Tensor) -> None:
        """Beam w of sentence b continues the old beam `origin_BW[b, w]`."""
        sentence_B1 = torch.arange(origin_BW.shape[0], device=origin_BW.device)[:, None]
        for layer in self.layers:
            layer.reorder(sentence_B1, origin_BW)

    def select(self, sentences: Tensor) -> None:
        """Keep the given sentences, in that order; the others leave the batch."""
        self.memory_mask_B11S = self.memory_mask_B11S[sentences]
        for layer in self.layers:
            layer.select(sentences)

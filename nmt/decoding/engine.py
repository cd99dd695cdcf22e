"""Sources in, hypotheses out: any number of sentences through one model, in their order.

Shapes: B sentences of a batch, S source length.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID, UNKNOWN_ID
from nmt.decoding.config import DecodingConfig
from nmt.decoding.search import Hypothesis, beam_search
from nmt.model.transformer import Transformer

# Pieces that no hypothesis has.
BANNED_IDS = (PAD_ID, UNKNOWN_ID, BEGIN_ID)


class Engine:
    """A model with the settings of the search."""

    def __init__(self, model: Transformer, config: DecodingConfig, device: torch.device) -> None:
        """`device` is where the weights of `model` are; they are used in the type they have."""
        self.model = model
        self.config = config
        self.device = device
        # Learned positions end somewhere, on both sides.
        self._longest_target = model.longest_source
        limits = (config.max_source_pieces, model.longest_source)
        self.longest_source = min(limit for limit in limits if limit is not None)

    @torch.inference_mode()
    def search(
        self, sources: Sequence[Sequence[int]], *, advance: Callable[[int], object] = lambda sentences: None
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each source (pieces with END_ID, at most `longest_source`), best first.

        `advance` is told, as the work goes on, how many more sentences are done.
        """
        found: list[list[Hypothesis]] = [[] for _ in sources]
        training = self.model.training
        self.model.eval()
        try:
            for numbers in self._batches(sources):
                batch = self._search_batch([sources[number] for number in numbers])
                for number, hypotheses in zip(numbers, batch, strict=True):
                    found[number] = hypotheses
                advance(len(numbers))
        finally:
            self.model.train(training)
        return found

    def _search_batch(self, sources: Sequence[Sequence[int]]) -> list[list[Hypothesis]]:
        longest = max(map(len, sources))
        padded = [[*pieces, *[PAD_ID] * (longest - len(pieces))] for pieces in sources]
        source_BS = torch.tensor(padded, device=self.device)
        return beam_search(
            self.model.step,
            self.model.start_cache(source_BS, beam_size=self.config.beam_size),
            sentences=len(sources),
            beam_size=self.config.beam_size,
            length_penalty=self.config.length_penalty,
            max_lengths=torch.tensor([self._max_length(len(pieces)) for pieces in sources]),
            begin_id=BEGIN_ID,
            end_id=END_ID,
            banned_ids=BANNED_IDS,
            device=self.device,
        )

    def _max_length(self, source_length: int) -> int:
        length = int(self.config.max_length_ratio * source_length) + self.config.max_length_offset
        return length if self._longest_target is None else min(length, self._longest_target)

    def _batches(self, sources: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Numbers of sentences of about one length, longest first: what needs most memory is tried first."""
        order = sorted(range(len(sources)), key=lambda number: -len(sources[number]))
        start = 0
        while start < len(order):
            tokens = len(sources[order[start]]) * self.config.beam_size
            end = start + max(1, self.config.max_tokens_per_batch // tokens)
            yield order[start:end]
            start = end

"""Sources in, hypotheses out: any number of sentences through one model, in their order.

The same sentences in another order or number give the same hypotheses, but for the rounding of sums.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID, UNKNOWN_ID
from nmt.decoding.beams import Penalty
from nmt.decoding.config import DecodingConfig
from nmt.decoding.ensemble import EnsembleCache, TranslationModel
from nmt.decoding.precision import decoding_model
from nmt.decoding.search import BeamSearch, Hypothesis, SearchRules
from nmt.model.cache import DecoderCache

# Pieces that no hypothesis has.
BANNED_IDS = (PAD_ID, UNKNOWN_ID, BEGIN_ID)


class Engine:
    """A model, or several as one, with the settings of the search."""

    def __init__(self, model: TranslationModel, config: DecodingConfig, device: torch.device) -> None:
        """`device` is where the weights of `model` are, which are taken as they are now."""
        self.model = decoding_model(model, config.precision, device)
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
        for numbers, rows in self._groups(sources):
            own = self._search_group([sources[number] for number in numbers], rows, advance)
            for number, hypotheses in zip(numbers, own, strict=True):
                found[number] = hypotheses
        return found

    def _search_group(
        self, sources: Sequence[Sequence[int]], rows: int, advance: Callable[[int], object]
    ) -> list[list[Hypothesis]]:
        """Search sources that are sorted by length, so many at a time."""

        def start(numbers: Sequence[int]) -> DecoderCache | EnsembleCache:
            longest = max(len(sources[number]) for number in numbers)
            padded = [[*sources[n], *[PAD_ID] * (longest - len(sources[n]))] for n in numbers]
            return self.model.start_cache(torch.tensor(padded, device=self.device), beam_size=rules.beam_size)

        rules = SearchRules(
            beam_size=self.config.beam_size,
            begin_id=BEGIN_ID,
            end_id=END_ID,
            banned_ids=BANNED_IDS,
            penalty=Penalty(formula=self.config.length_penalty_formula, exponent=self.config.length_penalty),
            stopping=self.config.stopping,
        )
        max_lengths = [self._max_length(len(pieces)) for pieces in sources]
        return BeamSearch[Any](
            start,
            self.model.step,
            rules,
            max_lengths=max_lengths,
            rows=rows,
            device=self.device,
            advance=advance,
        ).run()

    def _max_length(self, source_length: int) -> int:
        length = int(self.config.max_length_ratio * source_length) + self.config.max_length_offset
        return length if self._longest_target is None else min(length, self._longest_target)

    def _groups(self, sources: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], int]]:
        """Numbers of sentences, longest first, and how many of them fit into memory at a time.

        What needs most memory is tried first, and shorter sentences, of which more fit, begin another group.
        """
        order = sorted(range(len(sources)), key=lambda number: -len(sources[number]))
        start = 0
        while start < len(order):
            longest = len(sources[order[start]])
            rows = max(1, self.config.max_tokens_per_batch // (longest * self.config.beam_size))
            end = start
            while end < len(order) and 2 * len(sources[order[end]]) > longest:
                end += 1
            yield order[start:end], rows
            start = end

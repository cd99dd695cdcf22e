"""Sources in, hypotheses out: any number of sentences through one model, in their order.

The same sentences in another order or number give the same hypotheses, but for the rounding of sums.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID, Tokenizer
from nmt.decoding.beams import Penalty
from nmt.decoding.config import DecodingConfig
from nmt.decoding.constraints.terms import Terms
from nmt.decoding.ensemble import EnsembleCache, TranslationModel
from nmt.decoding.extension import Hypothesis, SearchRules
from nmt.decoding.guidance import BANNED_IDS, ConstraintError, Guidance
from nmt.decoding.precision import decoding_model
from nmt.decoding.search import BeamSearch, most_of_few_sizes
from nmt.model.cache import MEMORY_STEP, DecoderCache


class Engine:
    """A model, or several as one, with the settings of the search."""

    def __init__(
        self,
        model: TranslationModel,
        config: DecodingConfig,
        device: torch.device,
        *,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """
        Args:
            device: where the weights of `model` are, which are taken as they are now.
            tokenizer: what pieces write, for constraints on words.

        Raises:
            ConstraintError: words are banned that cannot be, or without a tokenizer.
        """
        self.model = decoding_model(model, config.precision, device)
        self.config = config
        self.guidance = Guidance(config, tokenizer)
        self.device = device
        # Learned positions end somewhere, on both sides.
        self._longest_target = model.longest_source
        limits = (config.max_source_pieces, model.longest_source)
        self.longest_source = min(limit for limit in limits if limit is not None)

    @torch.inference_mode()
    def search(
        self,
        sources: Sequence[Sequence[int]],
        *,
        prefixes: Sequence[Sequence[int]] | None = None,
        terms: Sequence[Terms] | None = None,
        advance: Callable[[int], object] = lambda sentences: None,
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each source (pieces with END_ID, at most `longest_source`), best first.

        Args:
            prefixes: pieces with which every hypothesis of a source begins, as `prefix_pieces` makes them.
            terms: what every hypothesis of a source has, each term as pieces (`term_pieces`).
            advance: is told, as the work goes on, how many more sentences are done.

        Raises:
            ConstraintError: a prefix or term is impossible, or contradicts the settings.
        """
        prefixes = prefixes or [()] * len(sources)
        terms = terms or [()] * len(sources)
        for number, asked in enumerate(zip(prefixes, terms, strict=True), start=1):
            try:
                self.check(*asked)
            except ConstraintError as error:
                raise ConstraintError(f"sentence {number}: {error}") from None
        found: list[list[Hypothesis]] = [[] for _ in sources]
        for numbers, rows in self._groups(sources):
            own = self._search_group(
                [sources[number] for number in numbers],
                [prefixes[number] for number in numbers],
                [terms[number] for number in numbers],
                rows,
                advance,
            )
            for number, hypotheses in zip(numbers, own, strict=True):
                found[number] = hypotheses
        return found

    def check(self, prefix: Sequence[int], terms: Terms) -> None:
        """
        Raises:
            ConstraintError: no hypothesis can have this prefix and these terms.
        """
        if not (prefix or terms):
            return
        self.guidance.check(prefix, terms)
        if self._longest_target is not None and _least_length(prefix, terms) > self._longest_target:
            raise ConstraintError(
                f"prefix and terms are longer than the model's {self._longest_target} pieces"
            )

    def _search_group(
        self,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        terms: Sequence[Terms],
        rows: int,
        advance: Callable[[int], object],
    ) -> list[list[Hypothesis]]:
        """Search sources that are sorted by length, so many at a time."""

        def start(numbers: Sequence[int]) -> DecoderCache | EnsembleCache:
            longest = self._padded_length(max(len(sources[number]) for number in numbers))
            padded = [[*sources[n], *[PAD_ID] * (longest - len(sources[n]))] for n in numbers]
            cache = self.model.start_cache(
                torch.tensor(padded, device=self.device), beam_size=rules.beam_size
            )
            if self.guidance.attends:
                cache.keep_attention()
            return cache

        rules = SearchRules(
            beam_size=self.config.beam_size,
            begin_id=BEGIN_ID,
            end_id=END_ID,
            banned_ids=BANNED_IDS,
            penalty=Penalty(formula=self.config.length_penalty_formula, exponent=self.config.length_penalty),
            stopping=self.config.stopping,
        )
        max_lengths = [
            max(self._max_length(len(source)), _least_length(prefix, own))
            for source, prefix, own in zip(sources, prefixes, terms, strict=True)
        ]
        return BeamSearch[Any](
            start,
            self.model.step,
            rules,
            max_lengths=max_lengths,
            rows=rows,
            device=self.device,
            extend=self.guidance.extension(rules, sources, prefixes, terms, self.device),
            advance=advance,
        ).run()

    def _max_length(self, source_length: int) -> int:
        length = int(self.config.max_length_ratio * source_length) + self.config.max_length_offset
        return length if self._longest_target is None else min(length, self._longest_target)

    def _padded_length(self, length: int) -> int:
        """Source slots of a batch whose longest sentence has so many pieces: few different lengths."""
        padded = -(-length // MEMORY_STEP) * MEMORY_STEP
        return padded if self.model.longest_source is None else min(padded, self.model.longest_source)

    def _groups(self, sources: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], int]]:
        """Numbers of sentences, longest first, and how many of them fit into memory at a time.

        What needs most memory is tried first, and shorter sentences, of which more fit, begin another group.
        """
        order = sorted(range(len(sources)), key=lambda number: -len(sources[number]))
        start = 0
        while start < len(order):
            longest = len(sources[order[start]])
            rows = self.config.max_tokens_per_batch // (longest * self.config.beam_size)
            rows = most_of_few_sizes(max(1, rows))
            end = start
            while end < len(order) and 2 * len(sources[order[end]]) > longest:
                end += 1
            yield order[start:end], rows
            start = end


def _least_length(prefix: Sequence[int], terms: Terms) -> int:
    """Pieces that a hypothesis with a prefix and terms may need, END included."""
    return len(prefix) + sum(len(term) for term in terms) + 1

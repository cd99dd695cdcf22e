"""Sources in, hypotheses out: any number of sentences through one model, in their order.

The same sentences in another order or number give the same hypotheses, but for the rounding of sums.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
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

# Sentences that are worth a thread of their own, and threads that Python's lock does not hold up.
_SENTENCES_PER_THREAD = 64
_MOST_THREADS = 4


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

    def search(
        self,
        sources: Sequence[Sequence[int]],
        *,
        prefixes: Sequence[Sequence[int]] | None = None,
        terms: Sequence[Terms] | None = None,
        advance: Callable[[int], object] = lambda sentences: None,
        in_threads: bool = False,
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each source (pieces with END_ID, at most `longest_source`), best first.

        Args:
            prefixes: pieces with which every hypothesis of a source begins, as `prefix_pieces` makes them.
            terms: what every hypothesis of a source has, each term as pieces (`term_pieces`).
            advance: is told, as the work goes on, how many more sentences are done.
            in_threads: where there are several CPU threads, each takes a share of the sentences through the
                whole search: the products of a small model are too short to be shared.

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
        # Of progress there is one display; where one share fails or is interrupted, the others end too.
        lock, ended = threading.Lock(), threading.Event()

        def advance_alone(sentences: int) -> None:
            with lock:
                if ended.is_set():
                    raise CancelledError
                advance(sentences)

        @torch.inference_mode()
        def search_share(share: Sequence[int]) -> None:
            for numbers, rows in self._groups(sources, share, len(shares)):
                own = self._search_group(
                    [sources[number] for number in numbers],
                    [prefixes[number] for number in numbers],
                    [terms[number] for number in numbers],
                    rows,
                    advance_alone,
                )
                for number, hypotheses in zip(numbers, own, strict=True):
                    found[number] = hypotheses

        # Longest first: what needs most memory is tried at once. Dealt out like cards.
        order = sorted(range(len(sources)), key=lambda number: -len(sources[number]))
        count = 1
        if in_threads and self.device.type == "cpu":
            useful = min(torch.get_num_threads(), _MOST_THREADS, len(sources) // _SENTENCES_PER_THREAD)
            count = max(1, useful)
        shares = [order[number::count] for number in range(count)]
        if count == 1:
            search_share(order)
        else:
            _each_in_a_thread(search_share, shares, ended)
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

    def _groups(
        self, sources: Sequence[Sequence[int]], order: Sequence[int], shares: int
    ) -> Iterator[tuple[list[int], int]]:
        """Numbers of sentences, longest first as in `order`, and how many a share of the memory holds.

        Shorter sentences, of which more fit, begin another group.
        """
        budget = self.config.max_tokens_per_batch // shares
        start = 0
        while start < len(order):
            longest = len(sources[order[start]])
            rows = most_of_few_sizes(max(1, budget // (longest * self.config.beam_size)))
            end = start
            while end < len(order) and 2 * len(sources[order[end]]) > longest:
                end += 1
            yield list(order[start:end]), rows
            start = end


def _each_in_a_thread(
    search_share: Callable[[Sequence[int]], None], shares: Sequence[Sequence[int]], ended: threading.Event
) -> None:
    """Search all shares at once, each with its part of the CPU threads; `ended` is set when one fails."""
    threads = torch.get_num_threads()
    each = threads // len(shares)

    def work(share: Sequence[int]) -> None:
        try:
            search_share(share)
        except BaseException:
            ended.set()
            raise

    try:
        with ThreadPoolExecutor(len(shares), "search", torch.set_num_threads, (each,)) as pool:
            futures = [pool.submit(work, share) for share in shares]
            try:
                wait(futures)
            except BaseException:
                # An interrupt; the pool waits for its threads.
                ended.set()
                raise
    finally:
        # The threads have set it for some libraries of the whole process.
        torch.set_num_threads(threads)
    errors = [error for future in futures if (error := future.exception()) is not None]
    # That a share was ended is not why.
    for error in sorted(errors, key=lambda error: isinstance(error, CancelledError)):
        raise error


def _least_length(prefix: Sequence[int], terms: Terms) -> int:
    """Pieces that a hypothesis with a prefix and terms may need, END included."""
    return len(prefix) + sum(len(term) for term in terms) + 1

"""What settings and callers ask of a search beyond plain beam search, put together.

Shapes: B rows, W beams, S source length.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID, UNKNOWN_ID, Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.decoding.constraints import Constraint
from nmt.decoding.constraints.prefix import Prefixes
from nmt.decoding.constraints.repetition import NoRepeat
from nmt.decoding.constraints.spelling import Kind, characters
from nmt.decoding.constraints.terms import RequiredTerms, Terms
from nmt.decoding.constraints.words import BannedWords, WithoutWords
from nmt.decoding.coverage import Coverage
from nmt.decoding.diversity import DiverseGroups
from nmt.decoding.extension import SearchRules
from nmt.decoding.guided import Choice, Guided, SharedOut
from nmt.decoding.sampling import Distribution, Sampling, sentence_key
from nmt.model.cache import DecoderCache

# Pieces that no hypothesis has.
BANNED_IDS = (PAD_ID, UNKNOWN_ID, BEGIN_ID)


class ConstraintError(ValueError):
    """What is asked of a translation is impossible, or contradicts something else that is asked for."""


class Guidance:
    """The settings that are the same for all sentences."""

    def __init__(self, config: DecodingConfig, tokenizer: Tokenizer | None) -> None:
        """
        Args:
            tokenizer: what pieces write; banned words need it, and without it a term may be the beginning
                of a longer word.

        Raises:
            ConstraintError: words are banned, and there is no tokenizer or nothing is left of a word.
        """
        self.config = config
        self.words: BannedWords | None = None
        self.goes_on: list[bool] | None = None
        self._spelling = None if tokenizer is None else tokenizer.spell_target
        if config.banned_words:
            if tokenizer is None:
                raise ConstraintError("decoding.banned_words: needs a tokenizer")
            words = [" ".join(tokenizer.normalize(word).split()) for word in config.banned_words]
            if "" in words:
                empty = config.banned_words[words.index("")]
                raise ConstraintError(
                    f"decoding.banned_words: nothing is left of {empty!r} as pieces write it"
                )
            self.words = BannedWords(words, tokenizer.spell_target(), end_id=END_ID)

    @property
    def attends(self) -> bool:
        """Whether the cache has to keep the attention over the source."""
        return self.config.coverage_penalty > 0

    def check(self, prefix: Sequence[int], terms: Terms) -> None:
        """
        Raises:
            ConstraintError: prefix and terms of a sentence contradict other things that are asked for.
        """
        if any(piece in (*BANNED_IDS, END_ID) for own in (prefix, *terms) for piece in own):
            raise ConstraintError(
                "a prefix or term has special pieces: characters that the vocabulary lacks?"
            )
        if self.words is not None and any(self.words.hold(own) for own in (prefix, *terms)):
            raise ConstraintError("a prefix or term has a word of decoding.banned_words")
        if not all(terms):
            raise ConstraintError("a term has no pieces")
        if terms:
            self.check_terms()

    def check_terms(self) -> None:
        """
        Raises:
            ConstraintError: there can be no terms with these settings.
        """
        if self.config.temperature > 0:
            raise ConstraintError("terms are searched for and not sampled: decoding.temperature must be 0")
        if self.config.diverse_groups > 1:
            raise ConstraintError("terms need all beams: decoding.diverse_groups must be 1")
        if self.config.beam_size < 2:
            raise ConstraintError(f"terms need decoding.beam_size of at least 2, not {self.config.beam_size}")

    def extension(
        self,
        rules: SearchRules,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        terms: Sequence[Terms],
        device: torch.device,
    ) -> Guided[DecoderCache] | None:
        """The step of a search for these sources, in this order; None for plain beam search."""
        config, sentences, beams = self.config, len(sources), rules.beam_size
        constraints: list[Constraint] = []
        choice: Choice | None = None
        if config.no_repeat_ngram:
            constraints.append(NoRepeat(config.no_repeat_ngram))
        if any(terms):
            required = RequiredTerms(terms, device, end_id=rules.end_id, goes_on=self._goes_on())
            constraints.append(required)
            choice = SharedOut(rules, required)
        if any(prefixes):
            constraints.append(Prefixes(prefixes, device))
        # Last: prefixes and terms have been found to be free of them.
        if self.words is not None:
            constraints.append(WithoutWords(self.words, sentences=sentences, beams=beams, device=device))
        if config.temperature > 0:
            distribution = Distribution(config.temperature, config.top_k, config.top_p)
            keys = [sentence_key(source) for source in sources]
            choice = Sampling(rules, distribution, seed=config.seed, keys=keys, device=device)
        elif config.diverse_groups > 1:
            choice = DiverseGroups(rules, groups=config.diverse_groups, strength=config.diversity)
        coverage = None
        if self.attends:
            lengths = [len(source) - 1 for source in sources]
            coverage = Coverage(
                config.coverage_penalty, _attention, lengths=lengths, beams=beams, device=device
            )
        if not constraints and choice is None and coverage is None:
            return None
        return Guided(rules, device, constraints=constraints, choice=choice, coverage=coverage)

    def _goes_on(self) -> list[bool] | None:
        if self.goes_on is None and self._spelling is not None:
            spelled = [[] if writing is None else characters(writing) for writing in self._spelling()]
            self.goes_on = [bool(own) and own[0].kind is not Kind.other for own in spelled]
        return self.goes_on


def _attention(cache: DecoderCache) -> Tensor:
    return cache.attention

"""Is an exported model the same model? Both engines translate the same sentences; what differs is counted.

Compared are searches that both know: greedy, and a beam without a length penalty. White space is not
compared: a translation of ours holds no line break, and other tokenizers drop the space around a text.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from nmt.bundle import Bundle
from nmt.decoding.config import DecodingConfig, DecodingPrecision, Stopping
from nmt.decoding.translator import Translator
from nmt.export.bleu_difference import BleuDifference, bleu_difference
from nmt.export.config import CheckConfig, Quantization
from nmt.export.refusal import ExportError

# The width of the wider search where the model folder records a narrower one.
_BEAM_SIZE = 5


class Engine(Protocol):
    """An exported model, loaded where it is meant to be used."""

    name: str
    # When its beam search ends.
    stopping: Stopping

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Source pieces with END."""

    def translate(self, texts: Sequence[str], *, beam_size: int, longest: int) -> list[str]:
        """Translations of at most `longest` pieces, END included, without a length penalty."""


@dataclass(kw_only=True, slots=True)
class Sentences:
    """What is translated; the references are there when a quantised model is checked."""

    origin: str
    sources: list[str]
    references: list[str] | None


@dataclass(kw_only=True, slots=True)
class Difference:
    """A sentence that the engines translate differently."""

    source: str
    ours: str
    theirs: str


@dataclass(kw_only=True, slots=True)
class Comparison:
    """One search over all sentences."""

    search: str
    sentences: int
    differences: list[Difference]

    @property
    def share(self) -> float:
        """How many translations differ, of one."""
        return len(self.differences) / self.sentences


@dataclass(kw_only=True, slots=True)
class Check:
    """What a check has found."""

    engine: str
    origin: str
    quantization: Quantization
    # Sentences whose source pieces differ.
    tokenized_differently: int
    comparisons: list[Comparison] = field(default_factory=list)
    bleu: BleuDifference | None = None

    def failure(self, config: CheckConfig) -> str | None:
        """Why this is not the same model; None when it is."""
        compared = self.comparisons[0].sentences
        if self.tokenized_differently > config.max_different * compared:
            return f"{self.tokenized_differently:,} of {compared:,} sentences have other pieces there"
        if self.bleu is not None:
            if self.bleu.difference >= -config.max_bleu_loss:
                return None
            return f"{self.bleu.difference:+.2f} BLEU, and check.max_bleu_loss={config.max_bleu_loss:g}"
        worst = max(self.comparisons, key=lambda comparison: comparison.share)
        if worst.share <= config.max_different:
            return None
        return (
            f"{len(worst.differences):,} of {compared:,} translations differ ({worst.search}), and"
            f" check.max_different={config.max_different:g}"
        )

    def as_text(self, examples: int) -> str:
        """The counts, and the first of the differing translations of each search."""
        sentences = self.comparisons[0].sentences
        lines = [
            f"{self.engine}, {self.quantization}, on {sentences:,} sentences ({self.origin}):",
            f"  {'other source pieces':33}  {self.tokenized_differently:,}",
        ]
        for comparison in self.comparisons:
            what = f"other translations, {comparison.search}"
            lines.append(f"  {what:33}  {len(comparison.differences):,}")
        if self.bleu is not None:
            lines.append(f"  {self.bleu}")
        for comparison in self.comparisons:
            for number, difference in enumerate(comparison.differences[:examples]):
                lines += [
                    "",
                    f"  {comparison.search}, difference {number + 1} of {len(comparison.differences):,}",
                ]
                lines.append(f"    source  {difference.source}")
                lines.append(f"    nmt     {difference.ours}")
                lines.append(f"    there   {difference.theirs}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: counts, and the differences of all searches."""
        found = asdict(self)
        for plain, comparison in zip(found["comparisons"], self.comparisons, strict=True):
            plain["different"] = len(comparison.differences)
        return found


def check(
    bundle: Bundle,
    engine: Engine,
    sentences: Sentences,
    quantization: Quantization,
    say: Callable[[str], object] = lambda line: None,
) -> Check:
    """Translate with both. `say` is told what is being done."""
    sources = sentences.sources
    ours_encoded, theirs_encoded = bundle.tokenizer.encode_source(sources), engine.encode(sources)
    found = Check(
        engine=engine.name,
        origin=sentences.origin,
        quantization=quantization,
        tokenized_differently=sum(a != b for a, b in zip(ours_encoded, theirs_encoded, strict=True)),
    )
    recorded = DecodingConfig(**bundle.settings.decoding)
    longest_source = max(map(len, ours_encoded))
    longest = int(recorded.max_length_ratio * longest_source) + recorded.max_length_offset
    if (limit := bundle.model.longest_source) is not None:
        longest = min(longest, limit)
    wide = recorded.beam_size if recorded.beam_size > 1 else _BEAM_SIZE
    for search, beam_size in (("greedy", 1), (f"beam {wide}", wide)):
        say(f"translating {len(sources):,} sentences, {search}, here and with {engine.name}")
        ours = _translate(bundle, sources, beam_size, longest, engine.stopping)
        theirs = engine.translate(sources, beam_size=beam_size, longest=longest)
        found.comparisons.append(compare(search, sources, ours, theirs))
    if quantization is not Quantization.float32 and sentences.references is not None:
        found.bleu = bleu_difference(ours, theirs, sentences.references)
    return found


def compare(search: str, sources: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> Comparison:
    """Which translations differ.

    Raises:
        ExportError: the other engine has lost a sentence.
    """
    if len(ours) != len(theirs):
        raise ExportError(f"{len(sources):,} sentences gave {len(theirs):,} translations there")
    differences = [
        Difference(source=source, ours=own, theirs=other)
        for source, own, other in zip(sources, ours, theirs, strict=True)
        if own.split() != other.split()
    ]
    return Comparison(search=search, sentences=len(sources), differences=differences)


def _translate(
    bundle: Bundle, sources: Sequence[str], beam_size: int, longest: int, stopping: Stopping
) -> list[str]:
    """Our translations, with the limits and the stopping rule that the other engine has."""
    config = DecodingConfig(
        beam_size=beam_size,
        length_penalty=0,
        stopping=stopping,
        precision=DecodingPrecision.float32,
        max_length_ratio=0,
        max_length_offset=longest,
        max_source_pieces=DecodingConfig(**bundle.settings.decoding).max_source_pieces,
    )
    translator = Translator.of(
        bundle.model, bundle.tokenizer, config, source_language=bundle.settings.source_language
    )
    return translator.translate(sources)

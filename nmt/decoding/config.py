"""Settings of decoding. Free of heavy imports, so that a wrong setting fails at once."""

from dataclasses import asdict, dataclass, field
from enum import Enum


class LengthPenalty(Enum):
    """What the log-probability of a hypothesis is divided by, a power of its length."""

    # ((5 + length) / 6) ^ a (Wu et al., 2016, section 7)
    wu = "wu"
    # length ^ a, as other engines have it
    power = "power"


class Stopping(Enum):
    """When the search of a sentence ends."""

    # When nothing that still grows can beat the hypotheses found.
    bound = "bound"
    # When as many hypotheses have ended as there are beams.
    count = "count"


class DecodingPrecision(Enum):
    """Type of the weights and products of a search."""

    # bfloat16 where the device multiplies it faster, float32 elsewhere
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    # Weights as whole numbers, for CPUs; attention in bfloat16 where that is faster
    int8 = "int8"


class OutputFormat(Enum):
    """How translations are written."""

    text = "text"
    tsv = "tsv"
    jsonl = "jsonl"


class MbrUtility(Enum):
    """What minimum Bayes risk takes for a good translation when another candidate is the truth."""

    # The most probable candidate is the translation.
    none = "none"
    chrf = "chrf"
    bleu = "bleu"


@dataclass(kw_only=True, slots=True)
class DecodingConfig:
    """How translations are searched for."""

    # 1 is greedy search.
    beam_size: int = 5
    # Exponent of the length penalty; 0 switches it off.
    length_penalty: float = 0.6
    length_penalty_formula: LengthPenalty = LengthPenalty.wu
    # Strength of the coverage penalty (Wu et al., 2016, equation 14); 0 switches it off.
    coverage_penalty: float = 0.0
    stopping: Stopping = Stopping.bound
    # Groups of beams that avoid each other's pieces (Vijayakumar et al., 2018), 1 for plain beam search, and
    # what a piece costs a group for each beam that has just taken it.
    diverse_groups: int = 1
    diversity: float = 1.0
    # Above 0 every beam is a sample, drawn at this temperature and not searched for.
    temperature: float = 0.0
    # Samples are drawn from the k most probable pieces, 0 for all, and of these from the fewest that have a
    # share of at least p.
    top_k: int = 0
    top_p: float = 1.0
    # A seed and a source have the same samples wherever and whenever they are drawn.
    seed: int = 0
    # No n pieces stand twice in a translation; 0 allows it.
    no_repeat_ngram: int = 0
    # Words, or texts of several words, that no translation has: exactly as written, not within longer words.
    banned_words: list[str] = field(default_factory=list)
    precision: DecodingPrecision = DecodingPrecision.auto
    # Choose the candidate of the search that the others agree with most, by this utility.
    mbr: MbrUtility = MbrUtility.none
    # A hypothesis has at most max_length_ratio x source pieces + max_length_offset pieces.
    max_length_ratio: float = 2.0
    max_length_offset: int = 20
    # Source pieces of one decoding batch, padding and beams included.
    max_tokens_per_batch: int = 16384
    # Source pieces translated as one sentence; longer lines are cut into parts, translated and joined.
    max_source_pieces: int = 256

    def plain(self) -> dict[str, str | int | float | list[str]]:
        """Names and plain values, as files record them; the constructor takes them back."""
        return {
            name: value.value if isinstance(value, Enum) else value for name, value in asdict(self).items()
        }

    def __post_init__(self) -> None:
        self.length_penalty_formula = LengthPenalty(self.length_penalty_formula)
        self.stopping = Stopping(self.stopping)
        self.precision = DecodingPrecision(self.precision)
        self.mbr = MbrUtility(self.mbr)
        at_least_one = ("beam_size", "diverse_groups", "max_tokens_per_batch", "max_source_pieces")
        for name in (*at_least_one, "max_length_offset"):
            if getattr(self, name) < 1:
                raise ValueError(f"decoding.{name} must be at least 1, not {getattr(self, name)}")
        not_negative = ("length_penalty", "coverage_penalty", "temperature", "top_k", "no_repeat_ngram")
        for name in (*not_negative, "max_length_ratio"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"decoding.{name} must not be negative, not {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"decoding.top_p must be above 0 and at most 1, not {self.top_p}")
        if not all(isinstance(word, str) and word.strip() for word in self.banned_words):
            raise ValueError("decoding.banned_words must be a list of words, none of them empty")
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        if self.temperature == 0 and (self.top_k > 0 or self.top_p < 1):
            name, value = ("top_k", self.top_k) if self.top_k > 0 else ("top_p", self.top_p)
            raise ValueError(
                f"decoding.{name}={value} chooses what samples are drawn from: it needs"
                " decoding.temperature above 0"
            )
        if self.mbr is not MbrUtility.none and self.beam_size == 1:
            raise ValueError(
                f"decoding.mbr={self.mbr.value} chooses among candidates, and decoding.beam_size=1 finds one;"
                " 5 and more are useful"
            )
        if self.diverse_groups > 1:
            if self.temperature > 0:
                raise ValueError(
                    f"decoding.diverse_groups={self.diverse_groups} is a search and"
                    f" decoding.temperature={self.temperature} draws samples: choose one"
                )
            if self.beam_size % self.diverse_groups:
                raise ValueError(
                    f"decoding.beam_size={self.beam_size} does not divide into"
                    f" decoding.diverse_groups={self.diverse_groups} groups of one size"
                )
            if not self.diversity > 0:
                raise ValueError(
                    f"decoding.diverse_groups={self.diverse_groups} needs decoding.diversity above 0, not"
                    f" {self.diversity}: all groups would find the same"
                )
        if self.coverage_penalty > 0 and self.beam_size == 1:
            raise ValueError(
                f"decoding.coverage_penalty={self.coverage_penalty} chooses among hypotheses: it needs"
                " decoding.beam_size above 1"
            )

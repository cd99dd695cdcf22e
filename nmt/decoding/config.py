"""Settings of decoding. Free of heavy imports, so that a wrong setting fails at once."""

from dataclasses import asdict, dataclass
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
    # Weights as whole numbers, for CPUs
    int8 = "int8"


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
    stopping: Stopping = Stopping.bound
    precision: DecodingPrecision = DecodingPrecision.auto
    # Choose the candidate of the search that the others agree with most, by this utility.
    mbr: MbrUtility = MbrUtility.none
    # A hypothesis has at most max_length_ratio x source pieces + max_length_offset pieces.
    max_length_ratio: float = 2.0
    max_length_offset: int = 20
    # Source pieces of one decoding batch, padding and beams included.
    max_tokens_per_batch: int = 8192
    # Source pieces translated as one sentence; longer lines are cut into parts, translated and joined.
    max_source_pieces: int = 256

    def plain(self) -> dict[str, str | int | float]:
        """Names and plain values, as files record them; the constructor takes them back."""
        return {
            name: value.value if isinstance(value, Enum) else value for name, value in asdict(self).items()
        }

    def __post_init__(self) -> None:
        self.length_penalty_formula = LengthPenalty(self.length_penalty_formula)
        self.stopping = Stopping(self.stopping)
        self.precision = DecodingPrecision(self.precision)
        self.mbr = MbrUtility(self.mbr)
        for name in ("beam_size", "max_tokens_per_batch", "max_source_pieces", "max_length_offset"):
            if getattr(self, name) < 1:
                raise ValueError(f"decoding.{name} must be at least 1, not {getattr(self, name)}")
        if self.mbr is not MbrUtility.none and self.beam_size == 1:
            raise ValueError(
                f"decoding.mbr={self.mbr.value} chooses among candidates, and decoding.beam_size=1 finds one;"
                " 5 and more are useful"
            )
        for name in ("length_penalty", "max_length_ratio"):
            if getattr(self, name) < 0:
                raise ValueError(f"decoding.{name} must not be negative, not {getattr(self, name)}")

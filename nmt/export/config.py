"""Settings of export. Free of heavy imports, so that a wrong setting fails at once."""

from dataclasses import dataclass
from enum import StrEnum, auto


class ExportFormat(StrEnum):
    """Whose format a model is written in."""

    ctranslate2 = auto()
    huggingface = auto()


class Quantization(StrEnum):
    """Type of the exported weights, in the words of CTranslate2; after _ the type of what is not int8."""

    float32 = auto()
    float16 = auto()
    bfloat16 = auto()
    int16 = auto()
    int8 = auto()
    int8_float32 = auto()
    int8_float16 = auto()
    int8_bfloat16 = auto()


@dataclass(kw_only=True, slots=True)
class CheckConfig:
    """When an exported model counts as the same model."""

    # Sentences that both engines translate, at most; 0 exports without a check.
    sentences: int = 1000
    # Share of translations that may differ between float32 weights here and there. Two hypotheses of nearly
    # the same score change places when sums are rounded in another order.
    max_different: float = 0.01
    # Points of BLEU that quantised weights may lose.
    max_bleu_loss: float = 1.0
    # Differing translations that are shown.
    examples: int = 3

    def __post_init__(self) -> None:
        for name in ("sentences", "examples"):
            if getattr(self, name) < 0:
                raise ValueError(f"check.{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.max_different <= 1:
            raise ValueError(f"check.max_different must be between 0 and 1, not {self.max_different}")
        if self.max_bleu_loss < 0:
            raise ValueError(f"check.max_bleu_loss must not be negative, not {self.max_bleu_loss}")

"""Settings of what is shown of a model. Free of heavy imports, so that a wrong setting fails at once."""

from dataclasses import dataclass
from enum import StrEnum, auto


class AttentionKind(StrEnum):
    """Decoder to encoder, or within one of them."""

    cross = auto()
    encoder = auto()
    decoder = auto()


class Units(StrEnum):
    """What stands on the axes: the pieces that the model sees, or words between blanks."""

    pieces = auto()
    words = auto()


class Theme(StrEnum):
    """Background of a picture."""

    light = auto()
    dark = auto()


@dataclass(kw_only=True, slots=True)
class AttentionMapConfig:
    """Which attention is shown, and how."""

    attention: AttentionKind = AttentionKind.cross
    # A number from 1, `mean` over them, or `all`, each in a map of its own.
    layer: str = "mean"
    head: str = "mean"
    units: Units = Units.words
    theme: Theme = Theme.light

    def __post_init__(self) -> None:
        for name in ("layer", "head"):
            value = getattr(self, name)
            if value not in ("mean", "all") and not (value.isdecimal() and int(value) >= 1):
                raise ValueError(f"{name} must be a number from 1, mean or all, not {value}")

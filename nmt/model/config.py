"""Settings of the Transformer. Free of heavy imports, so that a wrong setting fails at once."""

from dataclasses import dataclass
from enum import StrEnum, auto


class NormPlacement(StrEnum):
    """Before each block (Xiong et al., 2020) or after its residual (Vaswani et al., 2017)."""

    pre = auto()
    post = auto()


class NormKind(StrEnum):
    """Layer normalisation (Ba et al., 2016) or root mean square (Zhang and Sennrich, 2019)."""

    layer_norm = auto()
    rms_norm = auto()


class Activation(StrEnum):
    """Non-linearity of the feed-forward block; SwiGLU after Shazeer (2020)."""

    relu = auto()
    gelu = auto()
    swiglu = auto()


class Positions(StrEnum):
    """Fixed sinusoids (Vaswani et al., 2017, section 3.5) or a learned table."""

    sinusoidal = auto()
    learned = auto()


class TiedEmbeddings(StrEnum):
    """Which of source embedding, target embedding and output projection share weights.

    `all` is three-way (Press and Wolf, 2017), `decoder` ties target embedding and output.
    """

    all = auto()
    decoder = auto()
    none = auto()


@dataclass(kw_only=True, slots=True)
class TransformerConfig:
    """Shape and choices of the model; vocabulary sizes are run-time facts and not here."""

    encoder_layers: int = 6
    decoder_layers: int = 6
    width: int = 512
    heads: int = 8
    feed_forward_width: int = 2048
    norm_placement: NormPlacement = NormPlacement.pre
    norm: NormKind = NormKind.layer_norm
    activation: Activation = Activation.relu
    positions: Positions = Positions.sinusoidal
    # Length of the learned table; sinusoids have no limit.
    max_positions: int = 1024
    tied_embeddings: TiedEmbeddings = TiedEmbeddings.all
    # Residual dropout: on the output of each block and on the sum of embedding and position.
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "encoder_layers",
            "decoder_layers",
            "width",
            "heads",
            "feed_forward_width",
            "max_positions",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            divisors = ", ".join(str(n) for n in range(1, 65) if self.width % n == 0)
            raise ValueError(
                f"model.heads={self.heads} does not divide model.width={self.width}; allowed: {divisors}"
            )
        if self.width % 2:
            raise ValueError(f"model.width must be even, not {self.width}")
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 0 and below 1, not {getattr(self, name)}")

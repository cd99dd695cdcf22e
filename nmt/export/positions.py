"""Position vectors as a table, which is how other engines keep them."""

from torch import Tensor

from nmt.bundle import BundleSettings
from nmt.decoding.config import DecodingConfig
from nmt.model.layers import PositionEncoding, sinusoids


def position_table(encoding: PositionEncoding, settings: BundleSettings) -> Tensor:
    """Position vectors in float32 [positions, model width]; those of sinusoids reach as far as the model
    folder's settings of decoding let a sentence become long, at least `model.max_positions`."""
    if encoding.learned:
        return encoding.table.detach().float().cpu()
    return sinusoids(longest_sentence(settings), settings.model.width)


def longest_sentence(settings: BundleSettings) -> int:
    """Pieces of the longest source or translation that a model can have in another engine."""
    decoding = DecodingConfig(**settings.decoding)
    longest_target = int(decoding.max_length_ratio * decoding.max_source_pieces) + decoding.max_length_offset
    return max(settings.model.max_positions, decoding.max_source_pieces, longest_target)

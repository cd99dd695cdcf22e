"""The pass over sentence pairs in which the decoder reads the given target, not its own output.

Shapes: B sentences, S source length, T target length, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nmt.model.transformer import Transformer


class LengthError(ValueError):
    """A sentence that has more pieces than the model has learned positions."""


def forced_logits(
    model: Transformer, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, begin_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [B, T, V] of each target's pieces, the pieces [B, T], and True where they are no padding [B, T].

    Sources and targets are pieces with END; the decoder reads `begin_id` and the target without END.

    Raises:
        LengthError: a sentence is longer than learned positions reach.
    """
    check_length(model, max(map(len, [*sources, *targets])), "a sentence")
    device = model.target_embedding.weight.device
    source_BS, source_real_BS, source_positions_BS = _pad(sources, model.pad_id, device)
    target_BT, target_real_BT, target_positions_BT = _pad(targets, model.pad_id, device)
    input_BT = torch.cat([torch.full_like(target_BT[:, :1], begin_id), target_BT[:, :-1]], dim=1)
    # Each row holds one sentence, whose number is 1; that of padding is 0.
    logits_BTV = model(
        source_BS=source_BS,
        source_segments_BS=source_real_BS.long(),
        source_positions_BS=source_positions_BS,
        target_BT=input_BT,
        target_segments_BT=target_real_BT.long(),
        target_positions_BT=target_positions_BT,
    )
    return logits_BTV, target_BT, target_real_BT


def check_length(model: Transformer, pieces: int, name: str) -> None:
    """
    Raises:
        LengthError: `name` has more pieces than the learned positions of `model`, if it has such.
    """
    longest = model.longest_source
    if longest is not None and pieces > longest:
        raise LengthError(
            f"{name} has {pieces:,} pieces, and the learned positions of this model end at {longest:,}"
        )


def _pad(
    sentences: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces with padding behind, True where they are real, and positions."""
    longest = max(map(len, sentences))
    padded = [[*pieces, *[pad_id] * (longest - len(pieces))] for pieces in sentences]
    ids = torch.tensor(padded, dtype=torch.long, device=device)
    lengths = torch.tensor([len(pieces) for pieces in sentences], device=device)
    positions = torch.arange(longest, device=device).expand_as(ids)
    return ids, positions < lengths[:, None], positions

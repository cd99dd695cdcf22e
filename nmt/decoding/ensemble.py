"""Several models that decode as one: the probability of a piece is the mean of theirs.

The members may differ in everything but the vocabulary and the languages (Sutskever et al., 2014, section
3.6).

Shapes: B rows, S source length, W beams, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nmt import bundle
from nmt.bundle import Bundle, BundleError, BundleSettings
from nmt.data.tokenizer import Tokenizer
from nmt.model.cache import DecoderCache
from nmt.model.transformer import Transformer


class EnsembleCache:
    """The caches of all members, which change rows and beams together."""

    def __init__(self, members: Sequence[DecoderCache]) -> None:
        self.members = tuple(members)

    def keep_attention(self) -> None:
        """From now on `attention` is kept."""
        for member in self.members:
            member.keep_attention()

    @property
    def attention(self) -> Tensor:
        """Mean over the members of their attention in the newest step [B, W, S]."""
        return torch.stack([member.attention.float() for member in self.members]).mean(0)

    def reorder(self, origin_BW: Tensor) -> None:
        """Beam w of row b goes on from what beam `origin_BW[b, w]` has seen."""
        for member in self.members:
            member.reorder(origin_BW)

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, in that order."""
        for member in self.members:
            member.select(rows)

    def admit(self, rows: Tensor, other: "EnsembleCache") -> None:
        """Put the rows of another cache in the place of `rows`."""
        for member, others in zip(self.members, other.members, strict=True):
            member.admit(rows, others)


class Ensemble(nn.Module):
    """What decoding asks of a model, answered by several.

    The mean is taken over probabilities: a piece that one member finds good is a good one, as in a mixture.
    """

    def __init__(self, members: Sequence[Transformer]) -> None:
        """`members` are on one device and have one target vocabulary.

        Raises:
            ValueError: there are none, or their vocabularies differ in size.
        """
        super().__init__()
        sizes = {(len(each.source_embedding.weight), len(each.target_embedding.weight)) for each in members}
        if len(sizes) != 1:
            raise ValueError(f"an ensemble needs models of one vocabulary size, not of {len(sizes)}")
        self._members = nn.ModuleList(members)

    @property
    def members(self) -> list[Transformer]:
        """The models, as what they are."""
        members = []
        for member in self._members:
            assert isinstance(member, Transformer)
            members.append(member)
        return members

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights of the first member."""
        return self.members[0].dtype

    @property
    def longest_source(self) -> int | None:
        """Longest source in pieces that all members can read; None without a limit."""
        limits = [each.longest_source for each in self.members]
        return min((limit for limit in limits if limit is not None), default=None)

    def start_cache(self, source_BS: Tensor, *, beam_size: int) -> EnsembleCache:
        """Let every member encode the padded sources."""
        return EnsembleCache([each.start_cache(source_BS, beam_size=beam_size) for each in self.members])

    def step(self, ids_BW: Tensor, cache: EnsembleCache) -> Tensor:
        """Logarithms of the mean probabilities of the next piece, float32 [B, W, V].

        Added up as logarithms, so that a piece that every member finds next to impossible keeps its rank.
        """
        total_BWV: Tensor | None = None
        for member, own in zip(self.members, cache.members, strict=True):
            log_probs_BWV = member.step(ids_BW, own).log_softmax(dim=-1, dtype=torch.float32)
            if total_BWV is None:
                total_BWV = log_probs_BWV
            else:
                torch.logaddexp(total_BWV, log_probs_BWV, out=total_BWV)
        assert total_BWV is not None
        return total_BWV.sub_(math.log(len(cache.members)))


# What the engine decodes with.
TranslationModel = Transformer | Ensemble


@dataclass(slots=True)
class LoadedModels:
    """One or several model folders in memory, ready to translate together."""

    bundles: list[Bundle]
    model: TranslationModel

    @property
    def folder(self) -> Path:
        """The first folder, whose settings of decoding and test sets hold for all."""
        return self.bundles[0].folder

    @property
    def settings(self) -> BundleSettings:
        """Those of the first folder."""
        return self.bundles[0].settings

    @property
    def tokenizer(self) -> Tokenizer:
        """The one that all folders have."""
        return self.bundles[0].tokenizer


def load(models: str | Path | Sequence[str | Path], *, device: torch.device) -> LoadedModels:
    """Load one model, or several as an ensemble.

    Raises:
        BundleError: a folder cannot be used, or not together with the first: another tokenizer (compared byte
            by byte) or other languages.
    """
    paths = [models] if isinstance(models, str | Path) else list(models)
    # Before anything large is read.
    folders = [bundle.locate(path) for path in paths]
    for other in folders[1:]:
        _check_fit(folders[0], other)
    bundles = [bundle.load(folder, device=device) for folder in folders]
    members = [each.model for each in bundles]
    return LoadedModels(bundles, members[0] if len(members) == 1 else Ensemble(members))


def _check_fit(first: Path, other: Path) -> None:
    if Tokenizer.load(first) != Tokenizer.load(other):
        raise BundleError(
            f"model={first},{other}: {first} and {other} have different vocabularies; an ensemble needs"
            " models trained with one tokenizer"
        )
    directions = []
    for folder in (first, other):
        settings = bundle.read_settings(folder)
        directions.append(f"{settings.source_language}-{settings.target_language}")
    if directions[0] != directions[1]:
        raise BundleError(
            f"model={first},{other}: {first} translates {directions[0]}, {other} {directions[1]}; an ensemble"
            " needs models of one direction"
        )

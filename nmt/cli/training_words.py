"""The words that a model was trained on, where its training data can still be found."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from nmt.data.config import CorpusConfig
from nmt.data.corpus import input_files, read_blocks
from nmt.data.text_lines import DataError
from nmt.evaluation.evaluation import Provenance
from nmt.evaluation.word_frequency import TrainingWords

# Sentences that are turned back into text together.
_BLOCK = 20_000


class TrainingWordsError(ValueError):
    """The training data of a model cannot be found or read; the message says which."""


def training_words(provenance: Provenance) -> TrainingWords:
    """Count the words of both sides: in the files that the run was given, else in its prepared data.

    Nothing is fetched from a network.

    Raises:
        TrainingWordsError: neither is there.
    """
    settings = provenance.training
    if not settings:
        raise TrainingWordsError("the settings of its training are not known")
    corpus = CorpusConfig(
        **{each.name: settings.get(f"data.train.{each.name}", each.default) for each in fields(CorpusConfig)}
    )
    try:
        files = input_files(corpus, field="data.train")
        if files and all(path.is_file() for path in files):
            origin = ", ".join(str(path) for path in files)
            return TrainingWords.of(_blocks_of_files(corpus, provenance), origin)
        folder = _prepared_folder(settings, provenance.card)
        if folder is not None:
            return TrainingWords.of(_blocks_of_store(folder), str(folder / "train"))
    except DataError as error:
        raise TrainingWordsError(str(error)) from error
    missing = next((str(path) for path in files if not path.is_file()), corpus.dataset)
    raise TrainingWordsError(f"neither {missing} nor the prepared data is there")


def _prepared_folder(settings: dict[str, Any], card: dict[str, Any]) -> Path | None:
    """The prepared data of the fingerprint that the model's card names."""
    root, fingerprint = settings.get("data.prepared_folder"), card.get("data")
    if not root or not fingerprint:
        return None
    folder = Path(str(root)).expanduser() / str(fingerprint)
    return folder if (folder / "train").is_dir() else None


_Block = tuple[Sequence[str], Sequence[str]]


def _blocks_of_files(corpus: CorpusConfig, provenance: Provenance) -> Iterator[_Block]:
    languages = (provenance.source_language, provenance.target_language)
    for block in read_blocks(
        corpus, field="data.train", source_language=languages[0], target_language=languages[1]
    ):
        yield block.sources, block.targets


def _blocks_of_store(folder: Path) -> Iterator[_Block]:
    """Prepared pairs as text: cleaned, and normalised as the tokenizer does it."""
    from nmt.data.store import PairStore
    from nmt.data.tokenizer import Tokenizer

    store, tokenizer = PairStore.open(folder / "train"), Tokenizer.load(folder / "tokenizer")
    for start in range(0, len(store), _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, len(store)))
        sides = store.gather(numbers)
        lengths = (store.source_lengths[numbers], store.target_lengths[numbers])
        source, target = (
            [part.tolist() for part in np.split(pieces, np.cumsum(own)[:-1])]
            for pieces, own in zip(sides, lengths, strict=True)
        )
        yield tokenizer.decode_source(source), tokenizer.decode_target(target)

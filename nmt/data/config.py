"""Settings of the data pipeline. Free of heavy imports, so that a wrong setting fails at once."""

import re
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any


@dataclass(kw_only=True, slots=True)
class CorpusConfig:
    """Where one set of sentence pairs comes from: text files, tables, or a `datasets` data set.

    Exactly one of (`source` and `target`), `table` and `dataset` is given.
    """

    # Text files, one sentence per line: a path or a list of paths; .gz and .zst are unpacked.
    source: Any = None
    target: Any = None
    # TSV, CSV, JSONL or Parquet files: a path or a list of paths.
    table: Any = None
    # Hub id or local folder of a data set, with its configuration name and split.
    dataset: str | None = None
    dataset_name: str | None = None
    split: str = "train"
    # Columns of a table or data set. Without them a `translation` column of language pairs is
    # expected, or (TSV) the first column is the source and the second the target.
    source_column: str | None = None
    target_column: str | None = None


@dataclass(kw_only=True, slots=True)
class TestSetConfig(CorpusConfig):
    """Where a test set comes from: as any corpus, or by the name that sacrebleu knows it under."""

    # A class of this name is no test of pytest.
    __test__ = False

    # Further references of the same sources: text files, each with one line per source line.
    references: Any = None
    # Such as wmt14/full; the languages are those of the model. Fetched from the network when used first.
    sacrebleu: str | None = None


def check_source(corpus: CorpusConfig, name: str) -> None:
    """Exactly one of text files, tables, a data set and, for test sets, a name of sacrebleu.

    Raises:
        ValueError: something else; the message begins with the setting `name`.
    """
    for side in ("source", "target", "table", "references"):
        value = getattr(corpus, side, None)
        paths = value if isinstance(value, list) else [] if value is None else [value]
        if value == [] or not all(isinstance(path, str) and path for path in paths):
            raise ValueError(f"{name}.{side} must be a path or a list of paths, not {value!r}")
    if (corpus.source is None) != (corpus.target is None):
        given, absent = ("source", "target") if corpus.target is None else ("target", "source")
        raise ValueError(f"{name}.{given} is set but {name}.{absent} is not: text files come in pairs")
    kinds = ["source", "table", "dataset", "sacrebleu"]
    kinds = [kind for kind in kinds if getattr(corpus, kind, None) is not None]
    if not kinds:
        named = f", or {name}.sacrebleu=NAME" if isinstance(corpus, TestSetConfig) else ""
        raise ValueError(
            f"{name} is not set: give {name}.source=FILE and {name}.target=FILE, or {name}.table=FILE,"
            f" or {name}.dataset=NAME{named}"
        )
    if len(kinds) > 1:
        raise ValueError(f"{name} takes one of {', '.join(kinds)}; set the others to null")
    if (corpus.source_column is None) != (corpus.target_column is None):
        raise ValueError(f"{name}.source_column and {name}.target_column are given together or not at all")


@dataclass(kw_only=True, slots=True)
class CleaningConfig:
    """Which training pairs are dropped. Every rule counts what it removed."""

    remove_empty: bool = True
    remove_identical: bool = True
    remove_duplicates: bool = True
    # Longest kept sentence of either side, in pieces with the end-of-sentence piece.
    max_pieces_per_sentence: int = 128
    # Longer side over shorter side in pieces; pairs under 10 pieces a side are exempt. 0 switches it off.
    max_length_ratio: float = 4.0

    def __post_init__(self) -> None:
        if self.max_pieces_per_sentence < 2:
            raise ValueError("data.cleaning.max_pieces_per_sentence must be at least 2")
        if self.max_length_ratio != 0 and self.max_length_ratio < 1:
            raise ValueError("data.cleaning.max_length_ratio must be 0 (off) or at least 1")


@dataclass(kw_only=True, slots=True)
class DemoConfig:
    """The embedded demo corpus; its files are generated on first use."""

    folder: str = "data/demo"
    train_pairs: int = 60000
    valid_pairs: int = 500
    test_pairs: int = 1000
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("train_pairs", "valid_pairs", "test_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.demo.{name} must be at least 1")


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """The corpus of a run."""

    source_language: str = "source"
    target_language: str = "target"
    train: CorpusConfig = field(default_factory=CorpusConfig)
    valid: CorpusConfig = field(default_factory=CorpusConfig)
    test: dict[str, TestSetConfig] = field(default_factory=dict)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    demo: DemoConfig | None = None
    # Prepared data is kept here under a fingerprint of inputs and settings.
    prepared_folder: str = "data/prepared"
    # Processes that prepare data; 0 takes every core.
    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError("data.workers must be 0 (every core) or more")


class TokenizerAlgorithm(StrEnum):
    """Segmentation algorithms of sentencepiece."""

    unigram = auto()
    bpe = auto()


class Normalization(StrEnum):
    """Unicode normalisation rules of sentencepiece."""

    identity = auto()
    nfkc = auto()
    nmt_nfkc = auto()
    nfkc_cf = auto()
    nmt_nfkc_cf = auto()


@dataclass(kw_only=True, slots=True)
class TokenizerConfig:
    """How text becomes pieces (Kudo and Richardson, 2018)."""

    algorithm: TokenizerAlgorithm = TokenizerAlgorithm.unigram
    # Pieces in all; of each side when joint is false. An upper bound: small corpora give fewer.
    vocabulary_size: int = 8192
    # One vocabulary for both languages, which tied embeddings need.
    joint: bool = True
    byte_fallback: bool = True
    character_coverage: float = 0.9999
    normalization: Normalization = Normalization.nmt_nfkc
    # Strings that are never split, such as tags and placeholders.
    user_symbols: list[str] = field(default_factory=list)
    # Sentences of both sides that the tokenizer learns from, drawn evenly from the corpus.
    max_training_sentences: int = 2000000

    def __post_init__(self) -> None:
        smallest = 300 if self.byte_fallback else 32
        if self.vocabulary_size < smallest:
            raise ValueError(f"tokenizer.vocabulary_size must be at least {smallest}")
        if not 0.9 <= self.character_coverage <= 1:
            raise ValueError("tokenizer.character_coverage must be between 0.9 and 1")
        if self.max_training_sentences < 2:
            raise ValueError("tokenizer.max_training_sentences must be at least 2")
        if len(set(self.user_symbols)) < len(self.user_symbols):
            raise ValueError("tokenizer.user_symbols holds a symbol twice")
        for symbol in self.user_symbols:
            if not symbol or any(character.isspace() or character == "\u2581" for character in symbol):
                raise ValueError(f"tokenizer.user_symbols: {symbol!r} is empty or holds a space")
            if re.fullmatch(r"<(pad|unk|/?s|0x[0-9A-F]{2})>", symbol):
                raise ValueError(
                    f"tokenizer.user_symbols: {symbol!r} is a name that the tokenizer uses itself"
                )

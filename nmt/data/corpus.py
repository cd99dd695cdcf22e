"""Where sentence pairs come from: text files, tables (TSV, CSV, JSONL, Parquet) and `datasets` data sets."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from nmt.data.config import CorpusConfig, TestSetConfig
from nmt.data.pairs import PairBlock, repack
from nmt.data.tables import read_table
from nmt.data.text_lines import DataError, read_lines

__all__ = [
    "DataError",
    "PairBlock",
    "SentencePair",
    "check_corpus",
    "input_files",
    "named_files",
    "read_blocks",
    "read_pairs",
]


class SentencePair(NamedTuple):
    """A sentence, its translation, and where they stand ("train.en:17")."""

    source: str
    target: str
    origin: str


def read_pairs(
    corpus: CorpusConfig, *, field: str, source_language: str, target_language: str
) -> Iterator[SentencePair]:
    """Yield the pairs of a corpus in order, in constant memory.

    Args:
        corpus: where the pairs are.
        field: name of the setting, such as "data.train", for messages.
        source_language: key or column of the source side where the data names languages.
        target_language: the same of the target side.

    Raises:
        DataError: the data cannot be read whole; nothing is ever skipped or cut.
    """
    for block in read_blocks(
        corpus, field=field, source_language=source_language, target_language=target_language
    ):
        for place, (source, target) in enumerate(zip(block.sources, block.targets, strict=True)):
            yield SentencePair(source, target, block.origin(place))


def read_blocks(
    corpus: CorpusConfig, *, field: str, source_language: str, target_language: str
) -> Iterator[PairBlock]:
    """Yield what `read_pairs` yields in blocks of some thousand pairs."""
    check_corpus(corpus, field=field)
    languages = (source_language, target_language)
    if isinstance(corpus, TestSetConfig) and corpus.sacrebleu is not None:
        from nmt.data.test_sets import read_named

        texts, references = read_named(corpus.sacrebleu, field=field, languages=languages)
        yield PairBlock(texts, references[0], corpus.sacrebleu, range(1, len(texts) + 1))
    elif corpus.dataset is not None:
        from nmt.data.hub import read_dataset  # `datasets` takes a second to import

        yield from read_dataset(corpus, field=field, languages=languages)
    elif corpus.table is not None:
        for path in _paths(corpus.table, f"{field}.table"):
            columns = (corpus.source_column, corpus.target_column)
            yield from read_table(path, field=f"{field}.table", columns=columns, languages=languages)
    else:
        sources = _paths(corpus.source, f"{field}.source")
        targets = _paths(corpus.target, f"{field}.target")
        for source, target in zip(sources, targets, strict=True):
            yield from _read_parallel(source, target, field)


def input_files(corpus: CorpusConfig, *, field: str = "data") -> list[Path]:
    """Return the files that a corpus is read from, source files first; none for a data set of the hub."""
    return [path for _, path in named_files(corpus, field=field)]


def named_files(corpus: CorpusConfig, *, field: str) -> list[tuple[str, Path]]:
    """Return the files that a corpus is read from, each with the name of the setting that gave it."""
    check_corpus(corpus, field=field)
    if isinstance(corpus, TestSetConfig):
        if corpus.sacrebleu is not None:
            return []
        further = corpus.references if corpus.references is not None else []
        plain = CorpusConfig(**{each.name: getattr(corpus, each.name) for each in fields(CorpusConfig)})
        name = f"{field}.references"
        return named_files(plain, field=field) + [
            (name, path) for path in (_paths(further, name) if further else [])
        ]
    if corpus.dataset is not None:
        folder = Path(corpus.dataset).expanduser()
        files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        return [(f"{field}.dataset", path) for path in files]
    names = ["table"] if corpus.table is not None else ["source", "target"]
    settings = [f"{field}.{name}" for name in names]
    values = [getattr(corpus, name) for name in names]
    return [
        (name, path) for name, value in zip(settings, values, strict=True) for path in _paths(value, name)
    ]


def check_corpus(corpus: CorpusConfig, *, field: str) -> None:
    """Raise DataError unless exactly one kind of input is set, and set completely."""
    kinds = ("table", "dataset", "sacrebleu")
    given = [name for name in kinds if getattr(corpus, name, None) is not None]
    if corpus.source is not None or corpus.target is not None:
        given.insert(0, "source" if corpus.source is not None else "target")
    if len(given) > 1:
        raise DataError(
            f"{field}.{given[0]} and {field}.{given[1]} are both set; a corpus comes from one place: "
            f"set the other to null"
        )
    for name, other in (("source", "target"), ("target", "source")):
        if not given or (getattr(corpus, name) is None and getattr(corpus, other) is not None):
            raise DataError(f"{field}.{name} is not set; give a file of sentences: {field}.{name}=PATH")
    if (corpus.source_column is None) != (corpus.target_column is None):
        missing = "source_column" if corpus.source_column is None else "target_column"
        raise DataError(f"{field}.{missing} is not set; name both columns or none")
    if given == ["source"]:
        sources = _paths(corpus.source, f"{field}.source")
        targets = _paths(corpus.target, f"{field}.target")
        if len(sources) != len(targets):
            raise DataError(
                f"{field}.source has {len(sources)} files but {field}.target has {len(targets)}; "
                f"give one target file for each source file"
            )


def _paths(value: Any, field: str) -> list[Path]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(isinstance(item, str | Path) and str(item) for item in values):
        raise DataError(f"{field} must be a path or a list of paths, not {value!r}")
    return [Path(item).expanduser() for item in values]


def _read_parallel(source: Path, target: Path, field: str) -> Iterator[PairBlock]:
    """Read two text files side by side; differing line counts are an error, never cut."""
    sides = (
        repack(read_lines(source, field=f"{field}.source")),
        repack(read_lines(target, field=f"{field}.target")),
    )
    lines = 0
    nothing: list[str] = []
    for sources, targets in zip_longest(*sides, fillvalue=nothing):
        if len(sources) != len(targets):
            counts = [
                lines + len(sources) + sum(map(len, sides[0])),
                lines + len(targets) + sum(map(len, sides[1])),
            ]
            raise DataError(
                f"{field}: {source} has {counts[0]} lines but {target} has {counts[1]}; "
                f"line n of both must be translations of each other"
            )
        yield PairBlock(sources, targets, source.name, range(lines + 1, lines + 1 + len(sources)))
        lines += len(sources)

"""Test sets with all their references, from files or by the name that sacrebleu knows them under."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import xxhash

from nmt.data.config import CorpusConfig, TestSetConfig
from nmt.data.corpus import named_files, read_blocks
from nmt.data.text_lines import DataError, read_lines


@dataclass(kw_only=True, slots=True, frozen=True)
class TestSet:
    """Sources and, for each of them, one or several references."""

    # A class of this name is no test of pytest.
    __test__ = False

    name: str
    sources: list[str]
    # As many for one source as for the other.
    references: list[list[str]]
    # Where it was read: files, or a name of sacrebleu or of the hub.
    origin: list[str]
    # Of several files or parts of a data set the name and number of sentences of each, in order.
    corpora: list[tuple[str, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources)

    def source_hash(self) -> str:
        """Hash of the sources, wherever they were read."""
        return hash_texts(self.sources)

    def reference_hash(self) -> str:
        """Hash of the references in their order."""
        return hash_texts([text for texts in self.references for text in texts])


def hash_texts(texts: Sequence[str]) -> str:
    """xxh3-128 of texts, each ended by a NUL byte, which no text holds."""
    digest = xxhash.xxh3_128()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def read_test_set(
    name: str, corpus: CorpusConfig, *, source_language: str, target_language: str
) -> TestSet:
    """Read the test set `name`, given by the setting data.test.NAME.

    Raises:
        DataError: it cannot be read or fetched, is empty, or its references differ in number from its sources.
    """
    field = f"data.test.{name}"
    languages = (source_language, target_language)
    corpora: list[tuple[str, int]] = []
    origin = [str(path) for _, path in named_files(corpus, field=field)]
    if isinstance(corpus, TestSetConfig) and corpus.sacrebleu is not None:
        sources, columns = read_named(corpus.sacrebleu, field=field, languages=languages)
        origin = [f"sacrebleu:{corpus.sacrebleu}/{source_language}-{target_language}"]
    else:
        sources, first, corpora = _read_pairs(corpus, field, languages)
        columns = [first]
    for own_field, path in named_files(corpus, field=field):
        if own_field == f"{field}.references":
            lines = [line for block in read_lines(path, field=own_field) for line in block]
            if len(lines) != len(sources):
                raise DataError(
                    f"{own_field}: {path} has {len(lines)} lines but the test set {len(sources)};"
                    " line n of a reference file must be a translation of source n"
                )
            columns.append(lines)
    if not sources:
        raise DataError(f"{field}: holds no sentences")
    references = [list(texts) for texts in zip(*columns, strict=True)]
    return TestSet(
        name=name,
        sources=sources,
        references=references,
        origin=origin or [str(corpus.dataset)],
        corpora=corpora,
    )


def read_named(name: str, *, field: str, languages: tuple[str, str]) -> tuple[list[str], list[list[str]]]:
    """Sources of one of sacrebleu's test sets and its references, the first of all sources before the second ones.

    Raises:
        DataError: there is no such set, not for these languages, or it cannot be fetched.
    """
    from sacrebleu.utils import (
        SACREBLEU_DIR,
        get_available_testsets,
        get_langpairs_for_testset,
        get_reference_files,
        get_source_file,
    )

    field, pair = f"{field}.sacrebleu={name}", "-".join(languages)
    if name not in get_available_testsets():
        raise DataError(f"{field}: sacrebleu knows no such test set; `sacrebleu --list` names them all")
    if pair not in (pairs := get_langpairs_for_testset(name)):
        raise DataError(f"{field}: has no language pair {pair}; it has {', '.join(sorted(pairs))}")
    try:
        paths = [get_source_file(name, pair), *get_reference_files(name, pair)]
        source, *references = (_read_all(path) for path in paths)
    except (Exception, SystemExit) as error:
        # The library ends the process, or raises one of many errors, where a download fails.
        reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
        raise DataError(
            f"{field}: cannot be fetched ({reason}); on a machine with a network type `sacrebleu"
            f" --download {name} -l {pair}` and copy its folder to {SACREBLEU_DIR}, or give files"
        ) from error
    return source, references


def _read_all(path: str) -> list[str]:
    with open(path, encoding="utf-8", newline="\n") as file:
        return [line.removesuffix("\n").rstrip() for line in file]


def _read_pairs(
    corpus: CorpusConfig, field: str, languages: tuple[str, str]
) -> tuple[list[str], list[str], list[tuple[str, int]]]:
    """Sources, targets, and where several files were read the number of pairs of each."""
    sources: list[str] = []
    targets: list[str] = []
    corpora: list[tuple[str, int]] = []
    last_number = 0
    for block in read_blocks(
        corpus, field=field, source_language=languages[0], target_language=languages[1]
    ):
        sources += block.sources
        targets += block.targets
        # Numbers begin anew with each file, two of which may have the same name.
        if not corpora or corpora[-1][0] != block.name or min(block.numbers, default=0) <= last_number:
            corpora.append((block.name, 0))
        corpora[-1] = (block.name, corpora[-1][1] + len(block))
        last_number = max(block.numbers, default=0)
    return sources, targets, corpora if len(corpora) > 1 else []

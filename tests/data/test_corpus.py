"""Every kind of corpus gives the same pairs, and everything wrong with one is named."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.data import text_lines
from nmt.data.config import CorpusConfig
from nmt.data.corpus import DataError, input_files, read_pairs

# Characters at which str.splitlines would break a line, quotes and commas for CSV, and other scripts.
PAIRS = [
    ("A small house.", "Ein kleines Haus."),
    ("one\u2028line", "eine\x85Zeile"),
    ("tab\x0bnot", "Seiten\x0cvorschub \x1c\x1d\x1e"),
    ('He said "no", twice', "„Nein“, sagte er"),
    ("", "leer"),
    ("naïve 漢字 שלום 🙂", "e\u0301 \u200b ﬁ"),
    ("last", "letzte"),
]
SOURCES, TARGETS = [source for source, _ in PAIRS], [target for _, target in PAIRS]


def read(corpus: CorpusConfig) -> list[tuple[str, str]]:
    pairs = read_pairs(corpus, field="data.train", source_language="en", target_language="de")
    return [(pair.source, pair.target) for pair in pairs]


def lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def failure(corpus: CorpusConfig) -> str:
    with pytest.raises(DataError) as caught:
        read(corpus)
    message = str(caught.value)
    assert "\n" not in message
    assert "data.train" in message
    return message


def text_files(folder: Path, ending: str, pack: Callable[[bytes], bytes]) -> CorpusConfig:
    for language, texts in (("en", SOURCES), ("de", TARGETS)):
        (folder / f"t.{language}{ending}").write_bytes(pack(lines(texts)))
    return CorpusConfig(source=str(folder / f"t.en{ending}"), target=[str(folder / f"t.de{ending}")])


def several_frames(data: bytes) -> bytes:
    return b"".join(zstandard.compress(data[start : start + 7]) for start in range(0, len(data), 7))


def several_files(folder: Path) -> CorpusConfig:
    sources, targets = [], []
    for part, some in enumerate((PAIRS[:2], PAIRS[2:3], PAIRS[3:])):
        for paths, side in ((sources, 0), (targets, 1)):
            path = folder / f"part{part}.{side}"
            path.write_bytes(lines([pair[side] for pair in some]))
            paths.append(str(path))
    return CorpusConfig(source=sources, target=targets)


def tsv(folder: Path, name: str, rows: list[list[str]], **columns: str) -> CorpusConfig:
    data = lines(["\t".join(row) for row in rows])
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return CorpusConfig(table=str(folder / name), **columns)


def csv_file(folder: Path, heading: list[str], **columns: str) -> CorpusConfig:
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows((str(number), *pair) for number, pair in enumerate(PAIRS))
    return CorpusConfig(table=str(folder / "t.csv"), **columns)


def jsonl(folder: Path, rows: list[Any], **columns: str) -> CorpusConfig:
    texts = [json.dumps(row, ensure_ascii=number % 2 == 0) for number, row in enumerate(rows)]
    (folder / "t.jsonl.zst").write_bytes(zstandard.compress(lines(texts)))
    return CorpusConfig(table=str(folder / "t.jsonl.zst"), **columns)


def parquet(folder: Path, columns: dict[str, list[Any]], **names: str) -> CorpusConfig:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), folder / "t.parquet", row_group_size=3)
    return CorpusConfig(table=str(folder / "t.parquet"), **names)


def translations() -> list[dict[str, str]]:
    return [{"de": target, "en": source} for source, target in PAIRS]


def saved_dataset(folder: Path) -> CorpusConfig:
    import datasets

    datasets.Dataset.from_dict({"translation": translations()}).save_to_disk(str(folder / "saved"))
    return CorpusConfig(dataset=str(folder / "saved"))


def saved_splits(folder: Path) -> CorpusConfig:
    import datasets

    wanted = datasets.Dataset.from_dict({"id": SOURCES, "a": SOURCES, "b": TARGETS})
    other = datasets.Dataset.from_dict({"id": ["x"], "a": ["x"], "b": ["x"]})
    datasets.DatasetDict({"train": other, "dev": wanted}).save_to_disk(str(folder / "saved"))
    return CorpusConfig(dataset=str(folder / "saved"), split="dev", source_column="a", target_column="b")


def loadable_folder(folder: Path) -> CorpusConfig:
    (folder / "loadable").mkdir()
    rows = [json.dumps({"translation": row}) for row in translations()]
    (folder / "loadable" / "train.jsonl").write_bytes(lines(rows))
    return CorpusConfig(dataset=str(folder / "loadable"))


CORPORA: dict[str, Callable[[Path], CorpusConfig]] = {
    "plain": lambda folder: text_files(folder, "", bytes),
    "gz": lambda folder: text_files(folder, ".gz", gzip.compress),
    "zst": lambda folder: text_files(folder, ".zst", zstandard.compress),
    "zst in several frames": lambda folder: text_files(folder, ".zst", several_frames),
    "CRLF": lambda folder: text_files(folder, "", lambda data: data.replace(b"\n", b"\r\n")),
    "byte order mark": lambda folder: text_files(folder, "", lambda data: b"\xef\xbb\xbf" + data),
    "no line feed at the end": lambda folder: text_files(folder, "", lambda data: data[:-1]),
    "several files": several_files,
    "tsv": lambda folder: tsv(folder, "t.tsv", [[*pair, "more"] for pair in PAIRS]),
    "tsv.gz by number": lambda folder: tsv(
        folder, "t.tsv.gz", [["1", t, "2", s] for s, t in PAIRS], source_column="4", target_column="2"
    ),
    "tsv by name": lambda folder: tsv(
        folder, "t.tsv", [["x", "y"], *([t, s] for s, t in PAIRS)], source_column="y", target_column="x"
    ),
    "csv": lambda folder: csv_file(folder, ["id", "en", "de"]),
    "csv by name": lambda folder: csv_file(folder, ["id", "a", "b"], source_column="a", target_column="b"),
    "jsonl": lambda folder: jsonl(folder, translations()),
    "jsonl, translation": lambda folder: jsonl(folder, [{"translation": row} for row in translations()]),
    "jsonl by name": lambda folder: jsonl(
        folder, [{"a": s, "b": t} for s, t in PAIRS], source_column="a", target_column="b"
    ),
    "parquet": lambda folder: parquet(folder, {"de": TARGETS, "en": SOURCES}),
    "parquet, translation": lambda folder: parquet(folder, {"translation": translations()}),
    "parquet by name": lambda folder: parquet(
        folder, {"en": TARGETS, "b": TARGETS, "a": SOURCES}, source_column="a", target_column="b"
    ),
    "saved data set": saved_dataset,
    "saved splits": saved_splits,
    "folder for load_dataset": loadable_folder,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("kind", CORPORA)
def test_every_kind_of_corpus_gives_the_same_pairs(kind: str, tmp_path: Path) -> None:
    corpus = CORPORA[kind](tmp_path)
    assert read(corpus) == PAIRS
    assert input_files(corpus)
    assert all(path.is_file() for path in input_files(corpus))


line = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), max_size=12)


@given(st.lists(st.tuples(line, line), min_size=1, max_size=30), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_end_at_line_feeds_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[tuple[str, str]], end: str
) -> None:
    monkeypatch.setattr(text_lines, "_BLOCK_BYTES", 16)  # cuts lines, characters and line ends
    pairs = [(f"x{source.rstrip(chr(13))}", f"x{target.rstrip(chr(13))}") for source, target in pairs]
    for side, name in enumerate(("a", "b")):
        content = "".join(pair[side] + end for pair in pairs)
        (tmp_path / name).write_bytes(content.encode())
        (tmp_path / f"{name}.zst").write_bytes(zstandard.compress(content.encode()))
    for ending in ("", ".zst"):
        corpus = CorpusConfig(source=str(tmp_path / f"a{ending}"), target=str(tmp_path / f"b{ending}"))
        assert read(corpus) == pairs


def test_origins_count_lines_from_one_over_blocks_and_files(tmp_path: Path) -> None:
    for name, count in (("a.en", 25_000), ("a.de", 25_000), ("b.en", 2), ("b.de", 2)):
        (tmp_path / name).write_text("".join(f"{name} {number}\n" for number in range(1, count + 1)))
    corpus = CorpusConfig(
        source=[str(tmp_path / "a.en"), str(tmp_path / "b.en")],
        target=[str(tmp_path / "a.de"), str(tmp_path / "b.de")],
    )
    pairs = list(read_pairs(corpus, field="data.train", source_language="en", target_language="de"))
    assert len(pairs) == 25_002
    assert all(pair.source.replace(" ", ":") == pair.origin for pair in pairs)
    assert all(pair.target.replace(".de ", ".en:") == pair.origin for pair in pairs)


def spoil(folder: Path, target: bytes, ending: str = "") -> CorpusConfig:
    """A source of three good lines against `target`."""
    (folder / "t.en").write_bytes(b"a\nb\nc\n")
    (folder / f"t.de{ending}").write_bytes(target)
    return CorpusConfig(source=str(folder / "t.en"), target=str(folder / f"t.de{ending}"))


def table(folder: Path, name: str, content: bytes, **columns: str) -> CorpusConfig:
    (folder / name).write_bytes(content)
    return CorpusConfig(table=str(folder / name), **columns)


def missing_file(folder: Path) -> CorpusConfig:
    (folder / "train.en").write_text("a\n")
    return CorpusConfig(source=str(folder / "trian.en"), target=str(folder / "train.en"))


def long_mismatch(folder: Path) -> CorpusConfig:
    return spoil(folder, b"x\n" * 123_456)


FAULTS: dict[str, tuple[Callable[[Path], CorpusConfig], list[str]]] = {
    "fewer lines": (lambda f: spoil(f, b"x\ny\n"), ["t.en has 3 lines", "t.de has 2"]),
    "many more lines": (long_mismatch, ["t.en has 3 lines", "t.de has 123456"]),
    "invalid UTF-8": (lambda f: spoil(f, b"x\nab\xe4c\nz\n"), ["t.de, line 2, byte 3", "0xe4", "iconv"]),
    "character cut at the end": (lambda f: spoil(f, b"x\ny\nz\xc3"), ["t.de, line 3, byte 2", "iconv"]),
    "UTF-16": (lambda f: spoil(f, "x\ny\nz\n".encode("utf-16")), ["t.de", "UTF-16", "iconv"]),
    "NUL": (lambda f: spoil(f, b"x\ny\nz\0\n"), ["t.de, line 3", "NUL"]),
    "empty file": (lambda f: spoil(f, b""), ["t.de is empty"]),
    "byte order mark only": (lambda f: spoil(f, b"\xef\xbb\xbf"), ["t.de is empty"]),
    "missing file": (missing_file, ["data.train.source", "trian.en does not exist", "train.en?"]),
    "missing folder": (lambda f: CorpusConfig(source=str(f / "no/a"), target="b"), ["folder", "no/a"]),
    "folder for a file": (lambda f: CorpusConfig(source=str(f), target="b"), ["is a folder"]),
    "nothing set": (lambda f: CorpusConfig(), ["data.train.source is not set"]),
    "no target": (lambda f: CorpusConfig(source="a"), ["data.train.target is not set"]),
    "no source": (lambda f: CorpusConfig(target="a"), ["data.train.source is not set"]),
    "no path": (lambda f: CorpusConfig(source=3, target="b"), ["data.train.source", "3"]),
    "files and table": (
        lambda f: CorpusConfig(source="a", target="b", table="c.tsv"),
        ["data.train.source and data.train.table are both set"],
    ),
    "table and data set": (
        lambda f: CorpusConfig(table="c.tsv", dataset="d"),
        ["table and data.train.dataset"],
    ),
    "number of files": (
        lambda f: CorpusConfig(source=["a", "b"], target=["c"]),
        ["data.train.source has 2 files", "data.train.target has 1"],
    ),
    "one column": (lambda f: CorpusConfig(table="a.tsv", source_column="x"), ["data.train.target_column"]),
    "damaged gz": (lambda f: spoil(f, b"no gzip at all", ".gz"), ["t.de.gz is damaged"]),
    "cut gz": (lambda f: spoil(f, gzip.compress(b"x\ny\nz\n" * 99)[:-9], ".gz"), ["t.de.gz is damaged"]),
    "damaged zst": (lambda f: spoil(f, b"no zst at all", ".zst"), ["t.de.zst is damaged"]),
    "cut zst": (
        lambda f: spoil(f, zstandard.compress(b"x\ny\nz\n" * 99)[:-1], ".zst"),
        ["t.de.zst is damaged"],
    ),
    "unknown table": (lambda f: table(f, "t.xls", b"x"), ["t.xls", ".parquet"]),
    "TSV row": (lambda f: table(f, "t.tsv", b"a\tb\nc\n"), ["t.tsv, line 2", "2 columns expected, 1 found"]),
    "TSV column": (
        lambda f: table(f, "t.tsv", b"a\tb\nc\td\n", source_column="a", target_column="z"),
        ["no column 'z'", "a, b"],
    ),
    "CSV column": (lambda f: table(f, "t.csv", b"en,fr\nc,d\n"), ["'de'", "en, fr"]),
    "CSV quote": (lambda f: table(f, "t.csv", b'en,de\na,b\nc,"d\ne,f\n'), ["t.csv, line 4", "quotes"]),
    "CSV heading only": (lambda f: table(f, "t.csv", b"en,de\n"), ["t.csv has no rows"]),
    "JSON": (
        lambda f: table(f, "t.jsonl", b'{"en":"a","de":"b"}\n{"en":\n'),
        ["t.jsonl, line 2", "not JSON"],
    ),
    "JSON list": (lambda f: table(f, "t.jsonl", b'["a", "b"]\n'), ["t.jsonl, line 1", "list"]),
    "JSON column": (lambda f: table(f, "t.jsonl", b'{"en":"a","fr":"b"}\n'), ["line 1", "en, fr"]),
    "JSON null": (lambda f: table(f, "t.jsonl", b'{"en":"a","de":null}\n'), ["line 1", "target", "null"]),
    "JSON number": (lambda f: table(f, "t.jsonl", b'{"en":1,"de":"a"}\n'), ["line 1", "source", "int"]),
    "JSON NUL": (lambda f: table(f, "t.jsonl", b'{"en":"\\u0000","de":"a"}\n'), ["line 1", "NUL"]),
    "JSON surrogate": (
        lambda f: table(f, "t.jsonl", b'{"en":"\\ud83d","de":"a"}\n'),
        ["line 1", "surrogate"],
    ),
    "JSON deep": (lambda f: table(f, "t.jsonl", b"[" * 99_999 + b"\n"), ["line 1", "not JSON"]),
    "translation language": (
        lambda f: table(f, "t.jsonl", b'{"translation":{"en":"a","fr":"b"}}\n'),
        ["line 1", "no 'de'", "data.target_language", "en, fr"],
    ),
    "translation text": (lambda f: table(f, "t.jsonl", b'{"translation":"a"}\n'), ["line 1", "translation"]),
    "Parquet": (lambda f: table(f, "t.parquet", b"PAR1 is not enough"), ["t.parquet", "damaged"]),
    "Parquet column": (lambda f: parquet(f, {"en": ["a"], "fr": ["b"]}), ["en, fr"]),
    "Parquet null": (
        lambda f: parquet(f, {"en": ["a", "b"], "de": ["c", None]}),
        ["row 2", "target", "null"],
    ),
    "Parquet null far down": (
        lambda f: parquet(f, {"en": ["a"] * 12_000, "de": ["c"] * 11_000 + [None] * 1000}),
        ["row 11001", "null"],
    ),
    "Parquet number": (lambda f: parquet(f, {"en": ["a"], "de": [1]}), ["row 1", "target", "int"]),
    "Parquet without rows": (lambda f: parquet(f, {"en": [], "de": []}), ["no rows"]),
    "missing split": (
        lambda f: CorpusConfig(dataset=saved_splits(f).dataset, split="test"),
        ["no split 'test'", "train, dev"],
    ),
    "data set column": (
        lambda f: CorpusConfig(dataset=saved_dataset(f).dataset, source_column="a", target_column="b"),
        ["no column 'a'", "translation"],
    ),
    "no data set's name": (lambda f: CorpusConfig(dataset=str(f / "no" / "folder")), ["neither a folder"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_corpus_is_named(fault: str, tmp_path: Path) -> None:
    make, expected = FAULTS[fault]
    message = failure(make(tmp_path))
    for words in expected:
        assert words in message, message


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = spoil(tmp_path, b"x\ny\nz\n")

    def refuse(self: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in failure(corpus)


def test_an_unreachable_hub_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens at port 9, whatever network the machine has.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    requests = []
    monkeypatch.setattr("time.sleep", requests.append)
    message = failure(CorpusConfig(dataset="nobody/nothing-of-this-name"))
    assert "cannot be reached" in message
    assert "HF_HUB_OFFLINE" in message
    assert not requests, "waits between retries would add up to minutes"


def test_code_that_lies_with_a_data_set_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('x')\n")
    assert "evil" in failure(CorpusConfig(dataset=str(folder)))
    assert not (tmp_path / "ran").exists()

"""Test sets with several references, and those that sacrebleu knows by name."""

from pathlib import Path

import pytest
import sacrebleu.dataset.base
import sacrebleu.utils

from nmt.config import ConfigError
from nmt.cli.composition import Request, check
from nmt.data.config import DataConfig, TestSetConfig
from nmt.data.corpus import named_files
from nmt.data.fingerprint import InputHashes, corpus_identity
from nmt.data.test_sets import TestSet, read_test_set
from nmt.data.text_lines import DataError

LANGUAGES = {"source_language": "en", "target_language": "de"}


def write(folder: Path, **files: list[str]) -> dict[str, str]:
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {name: str(folder / name) for name in files}


def test_references_stand_beside_their_source(tmp_path: Path) -> None:
    paths = write(tmp_path, s=["one", "two"], t=["eins", "zwei"], u=["ein", ""], v=["1", "2"])
    corpus = TestSetConfig(source=paths["s"], target=paths["t"], references=[paths["u"], paths["v"]])
    found = read_test_set("x", corpus, **LANGUAGES)
    assert found.sources == ["one", "two"]
    assert found.references == [["eins", "ein", "1"], ["zwei", "", "2"]]
    assert found.origin == list(paths.values())
    assert [path for _, path in named_files(corpus, field="data.test.x")] == [Path(path) for path in paths.values()]


def test_a_reference_file_of_another_length_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, s=["one", "two"], t=["eins", "zwei"], u=["ein"])
    corpus = TestSetConfig(source=paths["s"], target=paths["t"], references=paths["u"])
    with pytest.raises(DataError, match=r"data\.test\.x\.references: .*u has 1 lines but the test set 2"):
        read_test_set("x", corpus, **LANGUAGES)


def test_hashes_are_those_of_the_texts_alone() -> None:
    def made(sources: list[str], references: list[list[str]], origin: str) -> TestSet:
        return TestSet(name=origin, sources=sources, references=references, origin=[origin])

    first, same = made(["a", "b"], [["x"], ["y"]], "1"), made(["a", "b"], [["x"], ["y"]], "2")
    assert (first.source_hash(), first.reference_hash()) == (same.source_hash(), same.reference_hash())
    assert made(["ab", ""], [["x"], ["y"]], "1").source_hash() != first.source_hash()
    assert made(["a", "b"], [["y"], ["x"]], "1").reference_hash() != first.reference_hash()


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of sacrebleu's that was fetched before, with two references (wmt21) and one (wmt14/full)."""
    for module in (sacrebleu.dataset.base, sacrebleu.utils):
        monkeypatch.setattr(module, "SACREBLEU_DIR", str(tmp_path))
    dataset = sacrebleu.utils.DATASETS["wmt14/full"]
    monkeypatch.setattr(dataset, "_outdir", str(tmp_path))
    monkeypatch.setattr(dataset, "fieldnames", lambda pair: ["src", "ref:A", "docid", "ref:B"])
    lines = {"src": "one\n \ntwo \n", "ref-A": "eins\n\nzwei\n", "docid": "d\nd\nd\n", "ref-B": "ein\nx\n2\n"}
    for field, text in lines.items():
        (tmp_path / f"wmt14_full.en-de.{field}").write_text(text)


@pytest.mark.usefixtures("fetched")
def test_a_set_of_sacrebleu_has_all_its_references() -> None:
    found = read_test_set("x", TestSetConfig(sacrebleu="wmt14/full"), **LANGUAGES)
    assert found.sources == ["one", "", "two"]
    assert found.references == [["eins", "ein"], ["", "x"], ["zwei", "2"]]
    assert found.origin == ["sacrebleu:wmt14/full/en-de"]


def test_what_cannot_be_fetched_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(sacrebleu.dataset.base, "download_file", offline)
    dataset = sacrebleu.utils.DATASETS["wmt14/full"]
    for name in ("_outdir", "_rawdir"):
        monkeypatch.setattr(dataset, name, str(tmp_path))
    with pytest.raises(DataError, match=r"cannot be fetched \(Name or service not known\)") as caught:
        read_test_set("x", TestSetConfig(sacrebleu="wmt14/full"), **LANGUAGES)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="has no language pair de-xx; it has"):
        read_test_set("x", TestSetConfig(sacrebleu="wmt14"), source_language="de", target_language="xx")


def test_the_name_of_a_set_is_part_of_what_it_is(tmp_path: Path) -> None:
    identities = [
        corpus_identity(TestSetConfig(sacrebleu=name), DataConfig(), InputHashes(tmp_path), field="f")
        for name in ("wmt14", "wmt14", "wmt15")
    ]
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ([], r"or data\.test\.x\.sacrebleu=NAME"),
        (["sacrebleu=wmt14", "table=a.tsv"], "takes one of table, sacrebleu"),
        (["source=a", "target=b", "references=[]"], r"data\.test\.x\.references must be a path or a list"),
    ],
)
def test_settings_of_test_sets_are_checked(settings: list[str], complaint: str) -> None:
    given = [f"data.test.x.{each}" for each in settings or ["split=test"]]
    config = Request.parse("evaluate", ["model=.", *given]).compose()
    with pytest.raises(ConfigError, match=complaint):
        check(config, "evaluate")


def test_of_several_files_the_sentences_of_each_are_counted(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    paths = write(tmp_path, s=["one", "two"], t=["eins", "zwei"])
    more = write(tmp_path / "more", s=["three"], t=["drei"], u=["four"], v=["vier"])
    corpus = TestSetConfig(
        source=[paths["s"], more["s"], more["u"]], target=[paths["t"], more["t"], more["v"]]
    )
    assert read_test_set("x", corpus, **LANGUAGES).corpora == [("s", 2), ("s", 1), ("u", 1)]
    # Rows below a heading are counted from the second line.
    (tmp_path / "a.jsonl").write_text('{"en": "one", "de": "eins"}\n')
    (tmp_path / "b.csv").write_text("en,de\ntwo,zwei\nthree,drei\n")
    tables = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv")]
    corpus = TestSetConfig(table=tables, source_column="en", target_column="de")
    assert read_test_set("x", corpus, **LANGUAGES).corpora == [("a.jsonl", 1), ("b.csv", 2)]
    single = TestSetConfig(source=paths["s"], target=paths["t"])
    assert read_test_set("x", single, **LANGUAGES).corpora == []

"""Prepared data is right, made once, whole whatever happens, and made anew when anything changes."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt.cli import prepare as prepare_verb
from nmt.data import fingerprint as fingerprint_module
from nmt.data import preparation
from nmt.data.config import CleaningConfig, CorpusConfig, DataConfig, TokenizerConfig
from nmt.data.corpus import DataError
from nmt.data.preparation import PreparedData, prepare, read_texts

SETTINGS = TokenizerConfig(vocabulary_size=400, max_training_sentences=4000)
VALID = [("a green tree", "ein grüner Baum"), ("", "leer"), ("same", "same"), ("the house", "das Haus")]


def sentences(count: int, seed: int = 1) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    english = ("the", "house", "is", "green", "walks", "little", "dogs", "near", "tree", "and")
    german = ("das", "Haus", "ist", "grün", "läuft", "kleine", "Hunde", "neben", "Baum", "und")
    pairs = []
    for number in range(count):
        row = [draw.randrange(10) for _ in range(draw.randint(2, 7))]
        pairs.append(
            (
                f"{number} " + " ".join(english[p] for p in row),
                f"{number} " + " ".join(german[p] for p in row),
            )
        )
    return pairs


def write_corpus(folder: Path, name: str, pairs: list[tuple[str, str]]) -> CorpusConfig:
    for side, language in enumerate(("en", "de")):
        (folder / f"{name}.{language}").write_text(
            "".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8"
        )
    return CorpusConfig(source=str(folder / f"{name}.en"), target=str(folder / f"{name}.de"))


def config(folder: Path, train: list[tuple[str, str]] | None = None, **settings: Any) -> DataConfig:
    return DataConfig(
        source_language="en",
        target_language="de",
        train=write_corpus(folder, "train", train if train is not None else sentences(200)),
        valid=write_corpus(folder, "valid", VALID),
        prepared_folder=str(folder / "prepared"),
        **settings,
    )


def stored(prepared: PreparedData, name: str = "train") -> list[tuple[str, str]]:
    """The texts of a store."""
    store = getattr(prepared, name)
    pairs = []
    for number in range(len(store)):
        source, target = store.gather([number])
        assert len(source) == store.source_lengths[number]
        assert len(target) == store.target_lengths[number]
        [first] = prepared.tokenizer.decode_source([source.tolist()])
        [second] = prepared.tokenizer.decode_target([target.tolist()])
        pairs.append((first, second))
    return pairs


def removed(prepared: PreparedData) -> dict[str, int]:
    rules = prepared.report["train"]["removed"].items()
    return {rule: counts["count"] for rule, counts in rules if counts["count"]}


@pytest.fixture(autouse=True)
def _old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that a test has just written count as old enough for their hashes to be remembered."""
    monkeypatch.setattr(fingerprint_module, "_TICK", 0)


def test_all_good_pairs_are_stored_in_order(tmp_path: Path) -> None:
    pairs = sentences(20_500)
    prepared = prepare(config(tmp_path, pairs), replace(SETTINGS, max_training_sentences=2000))
    assert len(prepared.train) == len(pairs)
    for start in (0, 9_990, 20_400):
        numbers = np.arange(start, start + 100)
        source, _ = prepared.train.gather(numbers)
        ends = np.cumsum(prepared.train.source_lengths[numbers])[:-1]
        texts = prepared.tokenizer.decode_source([part.tolist() for part in np.split(source, ends)])
        assert texts == [pair[0] for pair in pairs[start : start + 100]]
    assert stored(prepared, "valid") == VALID, "validation pairs are not cleaned"
    train = prepared.report["train"]
    assert (train["read"], train["kept"]) == (20_500, 20_500)
    assert train["source_pieces"] == prepared.train.source_lengths.sum()
    assert train["target_pieces"] == prepared.train.target_lengths.sum()


def dirty() -> list[tuple[str, str]]:
    long = " ".join(["tree"] * 300)
    return [
        ("one tree", "ein Baum"),
        ("", "leer"),
        ("one tree", "ein Baum"),
        ("gone", " "),
        ("\u200b\u200b", "unsichtbar"),
        ("same", "same"),
        (long, long.replace("tree", "Baum")),
        ("dog", "das kleine Haus neben dem Baum ist grün und das kleine Haus neben dem Baum ist grün"),
        ("one tree", "ein Bäumchen"),
        *sentences(50),
    ]


def test_cleaning_removes_and_counts(tmp_path: Path) -> None:
    prepared = prepare(config(tmp_path, dirty()), SETTINGS)
    assert stored(prepared) == [("one tree", "ein Baum"), ("one tree", "ein Bäumchen"), *sentences(50)]
    assert removed(prepared) == {"empty": 3, "identical": 1, "duplicate": 1, "too_long": 1, "length_ratio": 1}
    examples = {rule: counts["examples"] for rule, counts in prepared.report["train"]["removed"].items()}
    assert examples == {
        "empty": ["train.en:2", "train.en:4", "train.en:5"],
        "identical": ["train.en:6"],
        "duplicate": ["train.en:3"],
        "too_long": ["train.en:7"],
        "length_ratio": ["train.en:8"],
    }


@pytest.mark.parametrize(
    ("off", "rule"),
    [
        ({"remove_empty": False}, "empty"),
        ({"remove_identical": False}, "identical"),
        ({"remove_duplicates": False}, "duplicate"),
        ({"max_length_ratio": 0.0}, "length_ratio"),
        ({"max_pieces_per_sentence": 100_000}, "too_long"),
    ],
)
def test_a_rule_switched_off_removes_nothing(tmp_path: Path, off: dict[str, Any], rule: str) -> None:
    cleaning = CleaningConfig(**{"max_length_ratio": 4.0, **off})
    prepared = prepare(config(tmp_path, dirty(), cleaning=cleaning), SETTINGS)
    assert rule not in removed(prepared)
    assert len(removed(prepared)) == 4 or rule == "empty"  # an empty side breaks the ratio too, if it is long


def test_overlong_validation_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    data = config(tmp_path)
    data.valid = write_corpus(tmp_path, "valid", [*VALID, ("tree " * 300, "Baum")])
    prepared = prepare(data, SETTINGS)
    assert stored(prepared, "valid") == VALID
    assert prepared.report["valid"]["removed"]["too_long"] == {"count": 1, "examples": ["valid.en:5"]}


def test_nothing_left_is_an_error_and_much_removed_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"data\.train: none of 3 pairs is left \(identical 3\)"):
        prepare(config(tmp_path, [("ab", "ab"), ("c", "c"), ("d", "d")], cleaning=CleaningConfig()), SETTINGS)
    pairs = [*sentences(40), *((f"x{number}", f"x{number}") for number in range(60))]
    prepare(config(tmp_path, pairs), SETTINGS)
    assert (
        "warning: cleaning removed 60 % of the training pairs, most of them as identical"
        in capfd.readouterr().err
    )


def test_overlap_with_held_out_sets_is_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pairs = sentences(100)
    data = config(tmp_path, pairs)
    data.test = {
        "news": write_corpus(tmp_path, "news", [*pairs[:7], ("0 other", "0 andere"), (pairs[8][0], "x")])
    }
    prepared = prepare(data, SETTINGS)
    assert prepared.report["overlap"] == {
        "data.valid": {"pairs": 4, "in_training": 0},
        "data.test.news": {"pairs": 9, "in_training": 7},
    }
    assert "7 of 9 pairs of data.test.news" in capfd.readouterr().err
    data.test["more"] = write_corpus(tmp_path, "more", pairs[50:52])
    again = prepare(data, SETTINGS)
    assert again.fingerprint == prepared.fingerprint, "test sets do not enter the prepared data"
    assert again.report["overlap"]["data.test.more"] == {"pairs": 2, "in_training": 2}


def refuse(*arguments: object, **named: object) -> None:
    raise AssertionError("work was done that is not needed")


def test_a_broken_test_set_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = config(tmp_path)
    corpus = write_corpus(tmp_path, "news", sentences(3))
    monkeypatch.setattr(preparation, "_write", refuse)
    data.test = {"news": replace(corpus, target=str(tmp_path / "nothing"))}
    with pytest.raises(DataError, match=r"data\.test\.news\.target"):
        prepare(data, SETTINGS)
    assert not Path(data.prepared_folder).exists(), "large files were hashed before"
    data.test = {"news": corpus}
    (tmp_path / "news.de").write_text("eins\n")
    with pytest.raises(DataError, match=r"data\.test\.news.*3 lines.*1"):
        prepare(data, SETTINGS)


def test_a_second_run_reads_no_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = config(tmp_path)
    data.test = {"news": write_corpus(tmp_path, "news", sentences(3))}
    first = prepare(data, SETTINGS)
    assert "pairs read" in capfd.readouterr().err

    opened: list[str] = []
    plain_open = Path.open

    def watch_open(self: Path, *arguments: Any, **named: Any) -> Any:
        opened.append(self.name)
        return plain_open(self, *arguments, **named)

    for name in ("_write", "read_blocks"):
        monkeypatch.setattr(preparation, name, refuse)
    monkeypatch.setattr(Path, "open", watch_open)
    second = prepare(data, SETTINGS)
    assert second.report == first.report
    assert stored(second) == stored(first)
    assert not {"train.en", "train.de", "valid.en", "valid.de", "news.en", "news.de"} & set(opened)
    assert len(capfd.readouterr().err.splitlines()) == 1 + len(preparation.warnings(second.report))


def test_a_second_run_imports_neither_torch_nor_datasets(tmp_path: Path) -> None:
    prepare(config(tmp_path), SETTINGS)
    script = RUN + "\nassert not {'torch', 'datasets', 'pandas'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=ROOT, timeout=60)


def other(value: Any, allowed: dict[type, Any]) -> Any:
    """A value of the same type that differs."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Enum):
        return next(choice for choice in type(value) if choice is not value)
    if isinstance(value, list):
        return [*value, "<x>"]
    return value + allowed.get(type(value), 1)


@pytest.mark.parametrize(
    ("section", "name"),
    [(CleaningConfig, field.name) for field in fields(CleaningConfig)]
    + [(TokenizerConfig, field.name) for field in fields(TokenizerConfig)],
)
def test_every_setting_of_text_to_pieces_enters_the_fingerprint(
    tmp_path: Path, section: type, name: str
) -> None:
    data, settings = config(tmp_path), SETTINGS
    before = fingerprint_of(data, settings)
    changed = data.cleaning if section is CleaningConfig else settings
    changed = replace(changed, **{name: other(getattr(changed, name), {float: -0.05})})
    if section is CleaningConfig:
        after = fingerprint_of(replace(data, cleaning=changed), settings)
    else:
        after = fingerprint_of(data, changed)
    assert after != before


def fingerprint_of(data: DataConfig, settings: TokenizerConfig) -> str:
    root = Path(data.prepared_folder)
    root.mkdir(exist_ok=True)
    hashes = fingerprint_module.InputHashes(root)
    name = fingerprint_module.fingerprint(data, settings, hashes)
    hashes.save()
    return name


def test_a_change_of_any_input_is_noticed(tmp_path: Path) -> None:
    data = config(tmp_path)
    seen = {fingerprint_of(data, SETTINGS)}
    for number, name in enumerate(("train.en", "train.de", "valid.en", "valid.de"), start=2):
        path = tmp_path / name
        status = path.stat()
        path.write_bytes(path.read_bytes().replace(b"e", b"o", 1))  # same size
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # and same time, as rsync and tar set it
        seen.add(fingerprint_of(data, SETTINGS))
        assert len(seen) == number
    data.train.source, data.train.target = data.train.target, data.train.source
    seen.add(fingerprint_of(data, SETTINGS))
    table = tmp_path / "t.tsv"
    table.write_text("a\tb\n1\t2\n")
    for corpus in (
        CorpusConfig(table=str(table)),
        CorpusConfig(table=str(table), source_column="a", target_column="b"),
        CorpusConfig(table=str(table), source_column="b", target_column="a"),
        CorpusConfig(table=[str(table)] * 2),
    ):
        seen.add(fingerprint_of(replace(data, train=corpus), SETTINGS))
    assert len(seen) == 10


def test_the_newest_revision_of_the_hub_counts_and_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(config(tmp_path), train=CorpusConfig(dataset="some/name"))
    names = []
    for revision in ("abc", None, "def", None):
        monkeypatch.setattr("nmt.data.hub.hub_revision", lambda *_, revision=revision, **__: revision)
        names.append(fingerprint_of(data, SETTINGS))
    assert names[0] == names[1] != names[2] == names[3]


def test_places_and_cores_do_not_enter_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    first = fingerprint_of(config(tmp_path), SETTINGS)
    assert fingerprint_of(config(tmp_path / "moved", workers=3), SETTINGS) == first


@pytest.mark.parametrize(("pairs", "words"), [(200, "changed while"), (201, "grew while")])
def test_a_file_changed_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: int, words: str
) -> None:
    data = config(tmp_path)
    encode = preparation.encode_validation

    def encode_and_change(*arguments: Any) -> Any:
        write_corpus(tmp_path, "train", sentences(pairs, seed=2))
        return encode(*arguments)

    monkeypatch.setattr(preparation, "encode_validation", encode_and_change)
    with pytest.raises(DataError, match=words):
        prepare(data, SETTINGS)
    assert not [path for path in Path(data.prepared_folder).iterdir() if path.is_dir()]


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    files = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        prepared = prepare(
            config(folder, sentences(20_500), workers=workers), replace(SETTINGS, max_training_sentences=2000)
        )
        files.append(
            {
                path.relative_to(prepared.folder): path.read_bytes()
                for path in prepared.folder.rglob("*")
                if path.is_file() and path.name != "report.json"
            }
        )
    assert files[0] == files[1]


ROOT = Path(__file__).parents[2]
RUN = """
import os, sys, time
from pathlib import Path
from nmt.data import preparation, prepared_folder
from nmt.data.config import CorpusConfig, DataConfig, TokenizerConfig
folder = Path(sys.argv[1])
data = DataConfig(
    source_language="en", target_language="de", prepared_folder=str(folder / "prepared"),
    train=CorpusConfig(source=str(folder / "train.en"), target=str(folder / "train.de")),
    valid=CorpusConfig(source=str(folder / "valid.en"), target=str(folder / "valid.de")),
)
def go():
    return preparation.prepare(data, TokenizerConfig(vocabulary_size=400, max_training_sentences=4000))
if len(sys.argv) == 2:
    print(go().folder)
"""


def test_processes_at_once_make_it_once(tmp_path: Path) -> None:
    data = config(tmp_path, sentences(20_000))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    results = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    assert len({out for out, _ in results}) == 1
    assert sum("pairs read" in error for _, error in results) == 1, "only one did the work"
    assert sum("another process is preparing" in error for _, error in results) >= 1
    prepared = prepare(data, SETTINGS)
    assert str(prepared.folder) == results[0][0].strip()
    assert len(prepared.train) == 20_000
    assert stored(prepared, "valid") == VALID


HANG = """
place, name = {place}
work = getattr(place, name)
def hang(*arguments):
    work(*arguments)
    print("hangs", flush=True)
    time.sleep(100)
setattr(place, name, hang)
go()
"""


@pytest.mark.parametrize(
    "place",
    [
        "preparation, 'encode_validation'",
        "preparation, 'encode_training'",
        "preparation, 'write_json'",
        "prepared_folder, '_flush'",
    ],
)
def test_a_killed_preparation_leaves_nothing_that_looks_finished(tmp_path: Path, place: str) -> None:
    data = config(tmp_path)
    script = RUN + HANG.format(place=place)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), "hang"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "hangs\n"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    root = Path(data.prepared_folder)
    left = [path for path in root.iterdir() if path.is_dir()]
    assert left, "the test killed too early"
    assert all(path.name.startswith(".") for path in left)
    # A preparation of other data removes what is left, too.
    elsewhere = replace(data, cleaning=CleaningConfig(max_length_ratio=3.0))
    prepare(elsewhere, SETTINGS)
    assert not list(root.glob(".*.part"))
    prepared = prepare(data, SETTINGS)
    assert stored(prepared) == sentences(200)
    assert stored(prepared, "valid") == VALID


def test_a_living_preparation_is_left_alone(tmp_path: Path) -> None:
    from filelock import FileLock

    data = config(tmp_path)
    root = Path(data.prepared_folder)
    (root / ".abc.part").mkdir(parents=True)
    with FileLock(root / "abc.lock"):
        prepare(data, SETTINGS)
        assert (root / ".abc.part").exists()


def test_an_error_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "/full/disk")

    data = config(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "encode_training", fail)
        with pytest.raises(DataError, match=r"data\.prepared_folder.*/full/disk.*No space left"):
            prepare(data, SETTINGS)
    assert not [path for path in Path(data.prepared_folder).iterdir() if path.is_dir()]
    assert stored(prepare(data, SETTINGS)) == sentences(200)


def test_damaged_prepared_data_is_named(tmp_path: Path) -> None:
    prepared = prepare(config(tmp_path), SETTINGS)
    (prepared.folder / "report.json").write_text("{")
    with pytest.raises(DataError, match=r"report\.json.*delete the folder"):
        prepare(config(tmp_path), SETTINGS)


def test_a_folder_without_report_is_made_anew(tmp_path: Path) -> None:
    prepared = prepare(config(tmp_path), SETTINGS)
    (prepared.folder / "report.json").unlink()
    assert stored(prepare(config(tmp_path), SETTINGS)) == sentences(200)


def test_a_damaged_memory_of_inputs_does_no_harm(tmp_path: Path) -> None:
    data = config(tmp_path)
    first = prepare(data, SETTINGS)
    for content in ("", "[]", '{"x": 3}', json.dumps({str(tmp_path / "train.en"): [1, 2, 3, None]}), "\0"):
        (Path(data.prepared_folder) / "inputs.json").write_text(content)
        assert prepare(data, SETTINGS).fingerprint == first.fingerprint


def test_read_texts_gives_a_set_as_it_stands(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, "valid", VALID)
    texts = read_texts(corpus, field="data.valid", source_language="en", target_language="de")
    assert list(zip(*texts, strict=True)) == VALID


def test_the_verb_prints_the_counts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Config:
        data = config(tmp_path, dirty())
        tokenizer = SETTINGS

    prepare_verb.run(Config())  # type: ignore[arg-type]
    out, error = capfd.readouterr()
    assert "59" in out
    assert "removed as identical: 1, for example train.en:6" in out
    assert "▁tree" in out
    assert "pairs read" not in error, "the table is printed once"

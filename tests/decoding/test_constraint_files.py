"""`nmt translate` with terms, prefixes and word alignment, and the same in Python."""

import json
import random
import re
from pathlib import Path

import pytest

from nmt.cli.launch import main
from nmt.decoding.guidance import ConstraintError
from nmt.decoding.translator import Translator

WORDS = ["the", "small", "old", "dog", "cat", "house", "sees", "hears", "of"]
TERMS = {"dog": "HUND", "old cat": "ALTE KATZE"}


def some_lines(count: int, *, longest: int = 9) -> list[str]:
    dice = random.Random(3)
    return [" ".join(dice.choices(WORDS, k=dice.randrange(longest))) for _ in range(count)]


def appears(term: str, text: str) -> bool:
    return re.search(rf"(?<!\w){term}(?!\w)", text) is not None


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lines, terms, and a prefix for every other line."""
    monkeypatch.chdir(tmp_path)
    lines = some_lines(600)
    Path("in.txt").write_text("".join(f"{line}\n" for line in lines))
    Path("terms.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in TERMS.items()))
    prefixes = ["" if number % 2 else f"SO {number}" for number in range(len(lines))]
    Path("prefixes.txt").write_text("".join(f"{prefix}\n" for prefix in prefixes))
    return tmp_path


def run(model: Path, *settings: str) -> int:
    given = ["input=in.txt", "threads=1", "decoding.beam_size=3", "decoding.max_length_offset=8"]
    return main(["translate", f"model={model}", *given, *settings])


@pytest.mark.parametrize("workers", [1, 2])
def test_terms_appear_and_prefixes_are_kept(model: Path, files: Path, workers: int) -> None:
    given = ["output=out.txt", "terms=terms.tsv", "prefixes=prefixes.txt", f"workers={workers}"]
    assert run(model, *given) == 0
    lines, prefixes, found = (
        Path(name).read_text().split("\n")[:-1] for name in ("in.txt", "prefixes.txt", "out.txt")
    )
    count = 0
    for line, prefix, translation in zip(lines, prefixes, found, strict=True):
        assert not line or translation.startswith(prefix)
        for source, target in TERMS.items():
            if appears(source, line):
                assert appears(target, translation)
                count += 1
    assert count > 150
    # In Python the same.
    translator = Translator(model, beam_size=3, max_length_offset=8)
    assert translator.translate(lines, prefixes=prefixes, terms=TERMS) == found


def test_parts_of_a_long_line_have_their_own(model: Path) -> None:
    translator = Translator(model, beam_size=3, max_source_pieces=24, max_length_offset=8)
    lines = ["the cat sees. " * 4 + "the old dog hears." + " the cat sees." * 4, *some_lines(30, longest=60)]
    for line in lines:
        (found,) = translator.translate_in_detail([line], prefixes=["SO"], terms=TERMS)
        assert not line or found.text.startswith("SO")
        for source, target in TERMS.items():
            wanted = len(re.findall(rf"\b{source}\b", line)) > 0
            assert not wanted or appears(target, found.text)
    # The term is in the translation of its sentence, the fifth, and in no other.
    alone = translator.translate(["the old dog hears."], terms=TERMS)
    assert alone[0] in translator.translate(lines[:1], terms=TERMS)[0]


def test_texts_have_terms_of_their_own(model: Path) -> None:
    translator = Translator(model, beam_size=3, max_source_pieces=24, max_length_offset=8)
    texts = ["the dog", "the cat", ""]
    found = translator.translate(texts, terms=[["KATZE", "DER HUND"], [], ["x"]])
    assert appears("KATZE", found[0])
    assert appears("DER HUND", found[0])
    assert found[1:] == translator.translate(texts[1:])
    with pytest.raises(ConstraintError, match=r"line 2: is translated in parts.*as a mapping"):
        translator.translate(["the dog", "the cat sees. " * 9], terms=[[], ["KATZE"]])
    with pytest.raises(ConstraintError, match=r"line 1: terms need decoding.beam_size of at least 2"):
        translator.translate(["the dog"], terms=TERMS, beam_size=1)
    with pytest.raises(ValueError, match="there are 3 texts and 1 prefixes"):
        translator.translate(texts, prefixes=["SO"])
    with pytest.raises(ValueError, match="a side is blank"):
        translator.translate(texts, terms={"dog": " "})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["terms=missing.tsv"], "terms: missing.tsv does not exist"),
        (["terms=in.txt"], "terms: in.txt, line 1: must be a term, a tabulator and its translation"),
        (["terms=terms.tsv", "decoding.beam_size=1"], "terms=terms.tsv: terms need decoding.beam_size"),
        (["terms=terms.tsv", "decoding.banned_words=[HUND]"], "terms: terms.tsv, line 1: .*banned_words"),
        (["prefixes=terms.tsv"], "prefixes: terms.tsv has 2 lines and in.txt 600"),
        (["prefixes=[prefixes.txt,prefixes.txt]"], "2 files for 1 inputs"),
        (["prefixes=prefixes.txt", "decoding.banned_words=[SO]"], "prefixes: prefixes.txt, line 1: .*banned"),
        (["prefixes=prefixes.txt", "input=null"], "standard input has none"),
        (["alignment=true"], "alignment=true needs format=tsv or format=jsonl"),
        (["prefixes=out.txt", "output=out.txt"], "prefixes: out.txt does not exist"),
        (["workers=-1"], "workers must be 0"),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(
    model: Path, files: Path, capsys: pytest.CaptureFixture[str], settings: list[str], message: str
) -> None:
    before = sorted(files.iterdir())
    assert run(model, "output=out.txt", *settings) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert sorted(files.iterdir()) == before


def test_a_job_with_other_terms_or_prefixes_is_another_job(
    model: Path, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    given = ["output=out.txt", "terms=terms.tsv", "prefixes=prefixes.txt"]
    assert run(model, *given) == 0
    expected = Path("out.txt").read_bytes()
    translate_window, calls = Translator.translate_window, iter(range(9))
    with monkeypatch.context() as patch:
        patch.setattr(
            Translator,
            "translate_window",
            lambda *own, **named: stop() if next(calls) else translate_window(*own, **named),
        )
        assert run(model, *given) == 130
    terms, prefixes = Path("terms.tsv").read_text(), Path("prefixes.txt").read_text()
    Path("terms.tsv").write_text(terms.replace("HUND", "KATZE"))
    assert run(model, *given, "resume=true") == 2
    assert "begun with other terms" in capsys.readouterr().err
    Path("terms.tsv").write_text(terms)
    Path("prefixes.txt").write_text(prefixes.replace("SO 2\n", "SO\n"))
    assert run(model, *given, "resume=true") == 2
    assert "begun with other prefixes" in capsys.readouterr().err
    Path("prefixes.txt").write_text(prefixes)
    assert run(model, *given, "resume=true") == 0
    assert Path("out.txt").read_bytes() == expected


@pytest.mark.parametrize("parts", [False, True])
def test_every_word_of_a_translation_is_linked(model: Path, files: Path, parts: bool) -> None:
    given = ["alignment=true", "n_best=2", f"decoding.max_source_pieces={16 if parts else 256}"]
    assert run(model, "output=out.jsonl", "format=jsonl", *given) == 0
    assert run(model, "output=out.tsv", "format=tsv", *given) == 0
    rows = [line.split("\t") for line in Path("out.tsv").read_text().split("\n")[:-1]]
    entries = [json.loads(line) for line in Path("out.jsonl").read_text().split("\n")[:-1]]
    candidates = [each for entry in entries for each in (entry, *entry.get("alternatives", ()))]
    assert [row[-1] for row in rows] == [each["alignment"] for each in candidates]
    assert all(len(row) == 6 for row in rows)
    checked = 0
    for line, entry in zip(Path("in.txt").read_text().split("\n"), entries, strict=False):
        words, translated = line.split(), entry["translation"].split()
        links = [tuple(map(int, link.split("-"))) for link in entry["alignment"].split()]
        linked = {target for _, target in links}
        assert linked <= set(range(len(translated)))
        # Bytes that are no characters, as such a model writes, are white space for the tokenizer.
        if words and entry["translation"].isprintable() and "\ufffd" not in entry["translation"]:
            assert {n for n, word in enumerate(translated) if word.isalnum()} <= linked
            checked += 1
        assert all(0 <= source < len(words) for source, _ in links)
    assert checked > 20


def test_links_of_a_long_line_are_those_of_its_sentences(model: Path) -> None:
    translator = Translator(model, max_source_pieces=30, max_length_offset=8)
    sentences = [
        "the small dog sees.",
        "the old cat hears.",
        "of the house.",
        "the cat.",
        "the old house sees.",
    ]
    whole, *alone = translator.translate_in_detail(["  ".join(sentences), *sentences], alignment=True)
    expected = []
    sources = targets = 0
    for sentence, each in zip(sentences, alone, strict=True):
        assert each.alignment is not None
        expected += [(sources + source, targets + target) for source, target in each.alignment]
        sources += len(sentence.split())
        targets += len(each.text.split())
    assert whole.text == " ".join(each.text for each in alone)
    assert len(expected) > 2
    assert whole.alignment == tuple(expected)
    assert translator.translate_in_detail(sentences)[0].alignment is None

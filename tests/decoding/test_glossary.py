"""Terms are found as words, and files of them are checked line by line."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.text_lines import DataError
from nmt.decoding.glossary import Glossary

GLOSSARY = Glossary(
    {
        "dog": "Hund",
        "hot  dog": "Würstchen",
        "hot": "heiß",
        "C++": "C plus plus",
        "水": "Wasser",
        "Dog Star": "Sirius",
    }
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a dog", ["Hund"]),
        ("dog, dog.", ["Hund", "Hund"]),
        ("dogs hotdog dog_ Dog", []),
        ("(dog)-dog", ["Hund", "Hund"]),
        ("a hot dog", ["Würstchen"]),
        ("a hot\u3000 dog and hot hot dog", ["Würstchen", "heiß", "Würstchen"]),
        ("a Dog Star dog", ["Sirius", "Hund"]),
        ("C++, C +", ["C plus plus"]),
        ("我喝水。", ["Wasser"]),
        ("do\u0301g", []),
        ("", []),
    ],
)
def test_terms_are_whole_words_the_longest_first(text: str, found: list[str]) -> None:
    assert [term.target for term in GLOSSARY.find(text)] == found


@given(st.lists(st.sampled_from(["dog", "hot", "hotdog", " ", "-", "s", "Ä"]), max_size=12).map("".join))
def test_single_words_are_found_where_a_regular_expression_finds_them(text: str) -> None:
    found = [term.start for term in Glossary({"dog": "x"}).find(text)]
    assert found == [match.start() for match in re.finditer(r"(?<!\w)dog(?!\w)", text)]


def allow(target: str) -> None:
    if target == "bad":
        raise ValueError("is bad")


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "terms.tsv"
    path.write_bytes("\ufeffdog\tHund\r\n\n  big cat \t Löwe\ndog\tHund".encode())
    assert Glossary.read(path, allow).terms == {"dog": "Hund", "big cat": "Löwe"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dog\tHund\ncat", "line 2: must be a term, a tabulator and its translation, not 'cat'"),
        ("dog\tHund\tx", "line 1: must be a term"),
        ("dog\t ", "line 1: must be a term"),
        ("dog\tHund\n\ndog\tKöter", "line 3: 'dog' is 'Köter' here and 'Hund' in a line before"),
        ("dog\tbad", "line 1: is bad"),
        ("", "terms.tsv is empty"),
        ("\n", "terms.tsv has no terms"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "terms.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)):
        Glossary.read(path, allow)

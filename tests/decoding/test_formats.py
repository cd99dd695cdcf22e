"""Text, tables and JSON: every line in its place, whatever is in it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from nmt.decoding.config import OutputFormat
from nmt.decoding.formats import written
from nmt.decoding.translation import Candidate, Translation


def translation(text: str, *alternatives: str) -> Translation:
    figures = {"log_probability": -2.00001, "finished": True}
    others = tuple(Candidate(text=text, score=-2.25, **figures) for text in alternatives)  # type: ignore[arg-type]
    return Translation(text=text, score=-1.0, alternatives=others, **figures)  # type: ignore[arg-type]


def lines(layout: OutputFormat, *translations: Translation, first_line: int = 1) -> list[str]:
    content = written(translations, layout, first_line=first_line).decode()
    assert content == "" or content.endswith("\n")
    return content.split("\n")[:-1]


def test_text_is_one_line_each() -> None:
    assert lines(OutputFormat.text, translation("a", "b"), translation(""), translation(" c\t")) == [
        "a",
        "",
        " c\t",
    ]


def test_a_table_has_a_row_for_each_candidate() -> None:
    assert lines(OutputFormat.tsv, translation("a\tb", "c"), translation(""), first_line=7) == [
        "7\t1\t-1.0000\t-2.0000\ta b",
        "7\t2\t-2.2500\t-2.0000\tc",
        "8\t1\t-1.0000\t-2.0000\t",
    ]


def test_json_has_an_object_for_each_line() -> None:
    found = [json.loads(line) for line in lines(OutputFormat.jsonl, translation("ä\t", "c"), translation(""))]
    figures = {"log_probability": -2.0, "finished": True}
    assert found == [
        {
            "line": 1,
            "translation": "ä\t",
            "score": -1.0,
            **figures,
            "alternatives": [{"translation": "c", "score": -2.25, **figures}],
        },
        {"line": 2, "translation": "", "score": -1.0, **figures},
    ]


def test_alignment_is_one_more_column() -> None:
    figures = {"score": -1.0, "log_probability": -2.0, "finished": True}
    other = Candidate(text="c", alignment=((1, 0),), **figures)  # type: ignore[arg-type]
    linked = Translation(text="a b", alignment=((2, 0), (0, 1)), alternatives=(other,), **figures)  # type: ignore[arg-type]
    content = [linked, translation("")]
    rows = written(content, OutputFormat.tsv, first_line=1, alignment=True).decode().split("\n")[:-1]
    assert [row.split("\t")[4:] for row in rows] == [["a b", "2-0 0-1"], ["c", "1-0"], ["", ""]]
    entries = written(content, OutputFormat.jsonl, first_line=1, alignment=True).decode().splitlines()
    found = [json.loads(entry) for entry in entries]
    assert [each["alignment"] for each in (*found, *found[0]["alternatives"])] == ["2-0 0-1", "", "1-0"]


# A translation has no line breaks.
TEXT = st.text(st.characters(blacklist_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=10)


@given(st.lists(TEXT, max_size=5))
def test_any_text_keeps_its_line(texts: list[str]) -> None:
    translations = [translation(text) for text in texts]
    for layout in OutputFormat:
        found = lines(layout, *translations)
        assert len(found) == len(texts)
        assert all(len(line.splitlines()) <= 1 for line in found)
    rows = [line.split("\t") for line in lines(OutputFormat.tsv, *translations)]
    assert all(len(row) == 5 for row in rows)
    assert [json.loads(line)["line"] for line in lines(OutputFormat.jsonl, *translations)] == [
        number + 1 for number in range(len(texts))
    ]


def test_zero_has_no_sign() -> None:
    blank = Translation(text="", score=-0.00001, log_probability=-0.0, finished=True)
    assert lines(OutputFormat.tsv, blank) == ["1\t1\t0.0000\t0.0000\t"]

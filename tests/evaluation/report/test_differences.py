"""Marked differences: nothing is lost, and what is marked is what differs."""

from hypothesis import given
from hypothesis import strategies as st

from nmt.evaluation.report.differences import MOVED, OTHER, SAME, missing, nearest, segments

TEXTS = st.text(alphabet="ab .,\u3042\u05d0\n<")


def words_marked(found: list[str], mark: str) -> str:
    return " ".join(segment[1:].strip() for segment in found if segment[0] == mark and segment[1:].strip())


@given(TEXTS, TEXTS)
def test_segments_joined_are_the_text(text: str, other: str) -> None:
    for found in (segments(text, other), missing(text, [other])):
        assert "".join(segment[1:] for segment in found) == text
        marks = [segment[0] for segment in found]
        assert all(one != next_one for one, next_one in zip(marks, marks[1:], strict=False))
        assert set(marks) <= {SAME, MOVED, OTHER}


@given(TEXTS)
def test_equal_texts_have_no_marks(text: str) -> None:
    assert [segment[0] for segment in segments(text, text)] == [SAME] * bool(text)


def test_words_are_the_same_elsewhere_or_not_there() -> None:
    found = segments("the big old dog sees a cat", "a dog sees the old cat")
    assert words_marked(found, OTHER) == "big"
    assert words_marked(found, MOVED) in ("the a", "the old a", "dog a", "old a")
    # One word of the reference is used up by one word.
    assert words_marked(segments("dog dog dog", "dog x dog"), OTHER) == "dog"


def test_words_in_a_row_are_one_segment() -> None:
    assert segments("a new red house", "a house") == ["=a ", "-new red", "= house"]
    assert segments("", "a") == []


def test_missing_words_are_those_that_no_translation_has() -> None:
    assert missing("der alte Hund", ["der Hund", "ein Hund"]) == ["=der ", "-alte", "= Hund"]
    assert missing("der alte Hund", ["der Hund", "alte"]) == ["=der alte Hund"]


def test_the_nearest_reference_shares_most_words() -> None:
    assert nearest("a b c", ["a x y", "c b a", "a b"]) == "c b a"

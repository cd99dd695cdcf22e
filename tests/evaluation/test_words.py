"""Words and their counts in languages with and without spaces."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.evaluation import words as module
from nmt.evaluation.word_frequency import RAREST_BUCKETS, WORD_BUCKETS, WordFrequency
from nmt.evaluation.words import WordCounter, tokens, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The T-shirt isn't 3.5 m (long)...", ["The", "T-shirt", "isn't", "3.5", "m", "long"]),
        ("l’homme - né en 1,000", ["l’homme", "né", "en", "1,000"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("我有3本书。", ["我", "有", "3", "本", "书"]),
        ("שלום, עולם!", ["שלום", "עולם"]),
        ("a3,b 4.", ["a3", "b", "4"]),
        (" .,! ", []),
    ],
)
def test_words_are_those_that_a_reader_sees(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_tokens_joined_are_the_text_and_hold_its_words(text: str) -> None:
    found = tokens(text)
    assert "".join(found) == text
    assert [token for token in found if words(token)] == words(text)


@given(st.lists(st.text(alphabet="aAbB'- .\u3042\u00e9\n1,")), st.integers(1, 4))
def test_counts_are_those_of_the_words_one_by_one(texts: list[str], held: int) -> None:
    module._HELD_STRINGS, before = held, module._HELD_STRINGS
    try:
        counter = WordCounter()
        counter.add(texts)
        assert counter.counts() == Counter(word.casefold() for text in texts for word in words(text))
    finally:
        module._HELD_STRINGS = before


def test_every_count_has_one_bucket() -> None:
    for buckets in (WORD_BUCKETS, RAREST_BUCKETS):
        for count in (0, 1, 2, 4, 5, 9, 10, 99, 100, 999, 1000, 10**9):
            assert sum(count in bucket for bucket in buckets) == 1
        assert len({bucket.label for bucket in buckets}) == len(buckets)


def test_the_rarest_word_decides_and_numbers_are_no_words() -> None:
    frequency = WordFrequency.of(["The dog sees the cat", "the dog"])
    assert frequency["THE"] == 3
    assert frequency.rarest("The dog!") == 2
    assert frequency.rarest("the dog 77 cat") == 1
    assert frequency.rarest("the bird") == 0
    assert frequency.rarest("77 ...") is None

"""Banned words: over random texts against regular expressions, and in a search."""

import random
import re

import pytest

from nmt.decoding.constraints.words import BannedWords, WithoutWords
from nmt.decoding.extension import SearchRules
from nmt.decoding.guided import Guided
from tests.decoding.guided_trees import Guide, assert_same_in_every_batch, guided_search
from tests.decoding.test_search import CPU, END, TreeCache, assert_same, brute_force, random_tables

SPECIAL: list[str | int | None] = [None, None, None, None]
TEXTS = [
    " Hund",
    " H",
    "und",
    "Hund",
    "e",
    ".",
    "-",
    " ",
    " und",
    "n",
    " New",
    " York",
    "York",
    "é",
    "（",
    "犬",
]
BYTES = [*"é ü".encode(), 0x2E, 0x48, 0x0A]
BANNED = ["Hund", "und", "New York", "né", "e-e", "-.", "犬", "Hunde"]


def stands_in(word: str, text: str) -> bool:
    text = re.sub(r"\s", " ", text)
    spaceless = "犬"
    letter = f"[^\\W{spaceless}]"
    left = f"(?<!{letter})" if re.match(letter, word[0]) else ""
    right = f"(?!{letter})" if re.match(letter, word[-1]) else ""
    return re.search(left + re.escape(word) + right, text) is not None


@pytest.mark.parametrize("seed", range(5))
def test_exactly_the_texts_with_a_banned_word_are_found(seed: int) -> None:
    draw = random.Random(seed)
    banned = draw.sample(BANNED, 3)
    words = BannedWords(banned, [*SPECIAL, *TEXTS], end_id=END)
    answers = set()
    for _ in range(3000):
        pieces = draw.choices(range(4, 4 + len(TEXTS)), k=draw.randint(0, 6))
        text = "".join(TEXTS[piece - 4] for piece in pieces)
        expected = any(stands_in(word, text) for word in banned)
        assert words.hold(pieces) == expected, (banned, text)
        answers.add(expected)
    assert answers == {True, False}


@pytest.mark.parametrize("seed", range(5))
def test_no_spelling_in_bytes_hides_a_banned_word(seed: int) -> None:
    draw = random.Random(seed)
    banned = draw.sample(BANNED, 3)
    spelling: list[str | int | None] = [*SPECIAL, *TEXTS, *BYTES]
    words = BannedWords(banned, spelling, end_id=END)
    found = 0
    for _ in range(20000):
        pieces = draw.choices(range(4, len(spelling)), k=draw.randint(0, 6))
        data = b"".join(
            bytes([own]) if isinstance(own, int) else str(own).encode()
            for own in (spelling[p] for p in pieces)
        )
        text = data.decode("utf-8", "replace")
        if any(stands_in(word, text) for word in banned):
            found += any(isinstance(spelling[piece], int) for piece in pieces)
            assert words.hold(pieces), (banned, text)
    assert found > 10


def test_a_whole_word_is_banned_and_neither_longer_nor_other_words() -> None:
    spelling: list[str | int | None] = [*SPECIAL, " Hund", "e", ".", " hund", "-Leine"]
    words = BannedWords(["Hund"], spelling, end_id=END)
    held = {(4,): True, (4, 6): True, (4, 8): True, (4, 4): True, (4, 5): False, (7,): False, (5, 4): True}
    assert {pieces: words.hold(pieces) for pieces in held} == held


# 4 4, 4 5 and 5 4 write " a a", " ab" and "b a".
SPELLING: list[str | int | None] = [*SPECIAL, " a", "b"]


def without(banned: list[str]) -> Guide:
    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        words = BannedWords(banned, SPELLING, end_id=END)
        constraint = WithoutWords(words, sentences=len(numbers), beams=rules.beam_size, device=CPU)
        return Guided(rules, CPU, constraints=[constraint])

    return guide


@pytest.mark.parametrize("banned", [["a"], ["ab"], ["a ab", "bb"], ["abb", "a a"]])
def test_a_wide_beam_finds_every_text_without_the_words_in_order(banned: list[str]) -> None:
    tables = random_tables(3, depth=6, seed=1)
    for table, own in zip(tables, guided_search(tables, 64, [6] * 3, without(banned)), strict=True):
        everything = brute_force(table, 6, 0.6)
        texts = ["".join(str(SPELLING[piece]) for piece in pieces) for pieces, _ in everything]
        expected = [
            item
            for item, text in zip(everything, texts, strict=True)
            if not any(stands_in(word, text) for word in banned)
        ]
        assert 0 < len(expected) < len(everything)
        assert_same(own, expected)


def test_a_single_beam_does_not_run_into_a_word_that_it_cannot_end() -> None:
    tables = random_tables(50, depth=4, seed=2, spread=4.0)
    found = guided_search(tables, 1, [4] * 50, without(["ab"]))
    assert all(len(own) == 1 for own in found)


def test_batches_do_not_matter() -> None:
    assert_same_in_every_batch(
        random_tables(24, depth=6, seed=2), 3, [6, 4, 2, 5] * 6, without(["ab", "a a"])
    )

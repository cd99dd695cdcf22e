"""Terms that must appear."""

from collections.abc import Sequence

import pytest
import torch

from nmt.decoding.beams import Batch
from nmt.decoding.best_pieces import best_of_beams
from nmt.decoding.constraints.prefix import Prefixes
from nmt.decoding.constraints.repetition import NoRepeat
from nmt.decoding.constraints.terms import RequiredTerms
from nmt.decoding.extension import SearchRules
from nmt.decoding.guided import Guided, SharedOut
from tests.decoding.guided_trees import Guide, as_pieces, assert_same_in_every_batch, guided_search
from tests.decoding.test_search import (
    CPU,
    END,
    TreeCache,
    assert_same,
    brute_force,
    plain_beam_search,
    random_tables,
)

TERMS = [[[4, 5, 5]], [[5], [4, 4]], [], [[4, 4, 5], [5, 4]], [[4], [4]], [[5, 4, 5, 4]]]


def with_terms(terms: Sequence[list[list[int]]], goes_on: list[bool] | None = None) -> Guide:
    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        own = [terms[number % len(terms)] for number in numbers]
        required = RequiredTerms(own, CPU, end_id=END, goes_on=goes_on)
        return Guided(rules, CPU, constraints=[required], choice=SharedOut(rules, required))

    return guide


def has(pieces: list[int], terms: list[list[int]], goes_on: Sequence[int] = ()) -> bool:
    """Whether every term stands in the pieces and no piece of `goes_on` behind it."""
    return all(
        any(
            pieces[i : i + len(term)] == term
            and not set(pieces[i + len(term) : i + len(term) + 1]) & {*goes_on}
            for i in range(len(pieces) - len(term) + 1)
        )
        for term in terms
    )


@pytest.mark.parametrize("width", [2, 3, 5, 10])
@pytest.mark.parametrize("length", [6, 7])
def test_every_hypothesis_has_every_term_however_little_room_there_is(width: int, length: int) -> None:
    tables = random_tables(36, depth=7, seed=width, spread=4.0)
    found = guided_search(tables, width, [length] * 36, with_terms(TERMS))
    for number, own in enumerate(found):
        assert own
        assert all(has(hypothesis.pieces, TERMS[number % 6]) for hypothesis in own)
        assert [h.score for h in own] == sorted((h.score for h in own), reverse=True)
        assert len({tuple(h.pieces) for h in own}) == len(own)


@pytest.mark.parametrize("length", [6, 7])
def test_a_single_beam_writes_the_terms_as_long_as_there_is_room(length: int) -> None:
    """Without sharing out, what makes it certain has to do all the work."""

    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        own = [TERMS[number % 6] for number in numbers]
        return Guided(rules, CPU, constraints=[RequiredTerms(own, CPU, end_id=END)])

    found = guided_search(random_tables(60, depth=7, seed=1, spread=4.0), 1, [length] * 60, guide)
    for number, own in enumerate(found):
        assert [has(hypothesis.pieces, TERMS[number % 6]) for hypothesis in own] == [True]


def test_a_single_beam_does_not_lengthen_the_word_of_a_term() -> None:
    goes_on, terms = [False] * 5 + [True], [[4, 4, 4]]

    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        required = RequiredTerms([terms] * len(numbers), CPU, end_id=END, goes_on=goes_on)
        return Guided(rules, CPU, constraints=[required])

    for own in as_pieces(guided_search(random_tables(60, depth=6, seed=1, spread=4.0), 1, [6] * 60, guide)):
        assert [has(pieces, terms, goes_on=[5]) for pieces in own] == [True]


def test_a_wide_beam_finds_the_best_sequence_that_has_the_terms() -> None:
    tables = random_tables(60, depth=6, seed=7)
    found = guided_search(tables, 64, [6] * 60, with_terms(TERMS))
    looked_at = 0
    for number, (table, own) in enumerate(zip(tables, found, strict=True)):
        terms = TERMS[number % 6]
        expected = [item for item in brute_force(table, 6, 0.6) if has(item[0], terms)]
        assert {tuple(h.pieces) for h in own} <= {tuple(pieces) for pieces, _ in expected}
        # Where there is no room to spare, some ways to write the terms are not tried.
        if len(expected[0][0]) < 5:
            looked_at += 1
            assert_same(own[:1], expected[:1])
    assert looked_at > 15


@pytest.mark.parametrize("term", [9, 4])
def test_the_next_piece_of_a_term_is_a_candidate_once_however_improbable(term: int) -> None:
    required = RequiredTerms([[[term]]], CPU, end_id=END)
    batch = Batch.start(torch.tensor([9]), 2)
    log_probs = -torch.arange(10.0).roll(4)[None, None]
    pieces = best_of_beams(log_probs, 3)
    found = required.candidates(pieces, log_probs, torch.zeros(1, 1), batch, 2)
    ids = [
        i
        for i, value in zip(found.ids_BC[0].tolist(), found.log_probs_BC[0].tolist(), strict=True)
        if value > -99
    ]
    # The term's bank comes first, then the best without it; 4 is the most probable piece.
    assert ids == ([9, 4, 5, 6] if term == 9 else [4, 5, 6])


def test_sentences_without_terms_are_searched_as_ever() -> None:
    tables = random_tables(12, depth=6, seed=5)
    for number, own in enumerate(guided_search(tables, 3, [6] * 12, with_terms([[], [[4, 5]]]))):
        if number % 2 == 0:
            assert_same(own, plain_beam_search(tables[number], 3, 6, 0.6))


def test_batches_do_not_matter() -> None:
    assert_same_in_every_batch(
        random_tables(24, depth=7, seed=2), 4, [7, 6, 5, 6, 7, 7] * 4, with_terms(TERMS)
    )


def test_no_word_goes_on_behind_a_term() -> None:
    # Piece 5 continues a word, so that 4 5 is one word and no 4.
    goes_on = [False] * 5 + [True]
    tables = random_tables(30, depth=6, seed=3, spread=4.0)
    found = as_pieces(guided_search(tables, 4, [6] * 30, with_terms([[[4]]], goes_on)))
    assert all(has(pieces, [[4]], goes_on=[5]) for own in found for pieces in own)
    # It may stand there as a part of a longer word besides.
    assert any([4, 5] in [pieces[i : i + 2] for i in range(5)] for own in found for pieces in own)


def test_terms_may_repeat_pieces_and_stand_in_the_prefix() -> None:
    terms, prefixes = [[[4, 4, 4]], [[5, 4]]], [[5], [5, 4, 4]]

    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        required = RequiredTerms(terms, CPU, end_id=END)
        constraints = [NoRepeat(1), required, Prefixes(prefixes, CPU)]
        return Guided(rules, CPU, constraints=constraints, choice=SharedOut(rules, required))

    found = as_pieces(guided_search(random_tables(2, depth=7, seed=1), 3, [7, 7], guide))
    for own, asked, prefix in zip(found, terms, prefixes, strict=True):
        assert own
        assert all(has(pieces, asked) and pieces[: len(prefix)] == prefix for pieces in own)

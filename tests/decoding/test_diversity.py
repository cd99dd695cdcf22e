"""Diverse beam search."""

import pytest
from torch import Tensor

from nmt.decoding.config import Stopping
from nmt.decoding.diversity import DiverseGroups
from nmt.decoding.extension import SearchRules
from nmt.decoding.guided import Guided
from tests.decoding.guided_trees import Guide, as_pieces, assert_same_in_every_batch, guided_search
from tests.decoding.test_search import (
    CPU,
    END,
    WORDS,
    TreeCache,
    assert_same,
    continuations,
    penalized,
    plain_beam_search,
    random_tables,
)


def diverse(groups: int, strength: float = 0.8) -> Guide:
    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        return Guided(rules, CPU, choice=DiverseGroups(rules, groups=groups, strength=strength))

    return guide


def plain_diverse_search(
    table: Tensor, width: int, groups: int, max_length: int, strength: float
) -> list[tuple[list[int], float]]:
    """The documented rules once more, for one sentence, with lists instead of tensors."""
    size = width // groups
    live: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, ())] for _ in range(groups)]
    kept: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in range(groups)]
    for length in range(1, max_length + 1):
        allowed = (END,) if length == max_length else (END, *WORDS)
        taken: list[int] = []
        for group in range(groups):
            candidates = sorted(
                (
                    (log_prob + continuations(table, prefix)[piece], (*prefix, piece))
                    for log_prob, prefix in live[group]
                    for piece in allowed
                ),
                key=lambda item: -(item[0] - strength * taken.count(item[1][-1])),
            )
            ends = [(penalized(lp, length, 0.6), p[:-1]) for lp, p in candidates[:size] if p[-1] == END]
            kept[group] = sorted(kept[group] + ends, key=lambda item: -item[0])[:size]
            live[group] = [item for item in candidates[: 2 * size] if item[1][-1] != END][:size]
            best = max((lp for lp, _ in live[group]), default=None)
            full = len(kept[group]) == size
            if full and (best is None or size == 1 or kept[group][-1][0] >= penalized(best, max_length, 0.6)):
                live[group] = []
            taken += [prefix[-1] for _, prefix in live[group]]
    unique = {pieces: score for own in kept for score, pieces in own}
    return sorted(((list(p), score) for p, score in unique.items()), key=lambda item: -item[1])


@pytest.mark.parametrize("stopping", Stopping)
@pytest.mark.parametrize("width", [1, 2, 5])
def test_one_group_is_plain_beam_search(width: int, stopping: Stopping) -> None:
    tables = random_tables(20, depth=6, seed=width)
    found = guided_search(tables, width, [6, 3] * 10, diverse(1), stopping=stopping)
    for table, length, own in zip(tables, [6, 3] * 10, found, strict=True):
        assert_same(own, plain_beam_search(table, width, length, 0.6, stopping))


@pytest.mark.parametrize(("width", "groups"), [(2, 2), (4, 2), (6, 2), (6, 3)])
@pytest.mark.parametrize("strength", [0.3, 2.0])
def test_groups_follow_the_documented_rules(width: int, groups: int, strength: float) -> None:
    tables = random_tables(30, depth=6, seed=width)
    found = guided_search(tables, width, [6, 3, 5] * 10, diverse(groups, strength))
    for table, length, own in zip(tables, [6, 3, 5] * 10, found, strict=True):
        assert_same(own, plain_diverse_search(table, width, groups, length, strength))


def test_groups_begin_differently_where_diversity_is_strong() -> None:
    tables = random_tables(30, depth=4, seed=3)
    tables[..., END] = -20
    for own in as_pieces(guided_search(tables, 2, [4] * 30, diverse(2, 50.0))):
        assert {pieces[0] for pieces in own} == set(WORDS)


def test_batches_do_not_matter() -> None:
    assert_same_in_every_batch(random_tables(24, depth=6, seed=2), 4, [6, 4, 2, 5] * 6, diverse(2))


def test_results_are_sorted_and_distinct() -> None:
    for own in guided_search(random_tables(20, depth=6, seed=9), 6, [6, 2] * 10, diverse(3, 0.1)):
        assert [h.score for h in own] == sorted((h.score for h in own), reverse=True)
        assert len({tuple(h.pieces) for h in own}) == len(own) > 0

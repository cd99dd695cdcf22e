"""Target prefixes."""

import torch

from nmt.decoding.constraints.prefix import Prefixes
from nmt.decoding.constraints.repetition import NoRepeat
from nmt.decoding.extension import SearchRules
from nmt.decoding.guided import Guided
from tests.decoding.guided_trees import as_pieces, assert_same_in_every_batch, guided_search
from tests.decoding.test_search import CPU, TreeCache, assert_same, brute_force, random_tables

PREFIXES = [[4, 5], [], [5], [5, 5, 4]]
MAX_LENGTHS = [5, 4, 2, 4]


def with_prefixes(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
    return Guided(rules, CPU, constraints=[Prefixes([PREFIXES[n % 4] for n in numbers], CPU)])


def test_a_wide_beam_finds_every_sequence_with_the_prefix_in_order() -> None:
    tables = random_tables(4, depth=5, seed=1)
    found = guided_search(tables, 32, MAX_LENGTHS, with_prefixes)
    for table, length, prefix, own in zip(tables, MAX_LENGTHS, PREFIXES, found, strict=True):
        everything = brute_force(table, length, 0.6)
        assert_same(own, [item for item in everything if item[0][: len(prefix)] == prefix])


def test_batches_do_not_matter() -> None:
    assert_same_in_every_batch(random_tables(24, depth=6, seed=2), 3, [6, 4, 2, 5] * 6, with_prefixes)


def test_a_prefix_stands_above_other_constraints() -> None:
    prefix = [4, 4, 4, 4]

    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        return Guided(rules, CPU, constraints=[NoRepeat(1), Prefixes([prefix], CPU)])

    table = random_tables(1, depth=6, seed=3)
    (found,) = as_pieces(guided_search(table, 2, [6], guide))
    assert found
    for pieces in found:
        assert pieces[:4] == prefix
        assert pieces[4:] in ([], [5])


def test_broken_weights_find_nothing() -> None:
    tables = torch.full_like(random_tables(4, depth=5, seed=1), torch.nan)
    assert guided_search(tables, 2, MAX_LENGTHS, with_prefixes) == [[]] * 4

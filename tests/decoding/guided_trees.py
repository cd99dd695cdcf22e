"""Guided searches over trees of tables, beside the lists of all sequences."""

from collections.abc import Callable, Sequence

from torch import Tensor

from nmt.decoding.config import Stopping
from nmt.decoding.extension import Hypothesis, SearchRules
from nmt.decoding.guided import Guided
from nmt.decoding.search import BeamSearch
from tests.decoding.test_search import CPU, TreeCache, make_rules, tree_step

# The rules and the numbers of the sentences among all -> what is chosen.
Guide = Callable[[SearchRules, list[int]], Guided[TreeCache]]


def guided_search(
    tables: Tensor,
    width: int,
    max_lengths: Sequence[int],
    guide: Guide,
    *,
    numbers: Sequence[int] | None = None,
    length_penalty: float = 0.6,
    rows: int = 7,
    stopping: Stopping = Stopping.bound,
) -> list[list[Hypothesis]]:
    """Search the sentences with these numbers, or all."""
    own = list(range(len(tables)) if numbers is None else numbers)
    rules = make_rules(width, length_penalty, stopping)
    return BeamSearch(
        lambda rows: TreeCache.start(tables[[own[row] for row in rows]], width),
        tree_step,
        rules,
        max_lengths=[max_lengths[number] for number in own],
        rows=rows,
        device=CPU,
        extend=guide(rules, own),
    ).run()


def assert_same_in_every_batch(tables: Tensor, width: int, max_lengths: Sequence[int], guide: Guide) -> None:
    """Alone, in another order, and with rows that change hands often or never."""
    count = len(tables)
    together = guided_search(tables, width, max_lengths, guide)
    alone = [guided_search(tables, width, max_lengths, guide, numbers=[n])[0] for n in range(count)]
    turned = guided_search(tables, width, max_lengths, guide, numbers=range(count - 1, -1, -1))[::-1]
    others = [guided_search(tables, width, max_lengths, guide, rows=rows) for rows in (1, 2, 100)]
    for found in (alone, turned, *others):
        assert as_pieces(found) == as_pieces(together)


def as_pieces(found: list[list[Hypothesis]]) -> list[list[list[int]]]:
    return [[hypothesis.pieces for hypothesis in own] for own in found]

"""Search over tables, where every answer can be computed by hand, and over the real model."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from nmt.decoding.beams import Penalty
from nmt.decoding.config import Stopping
from nmt.decoding.search import BeamSearch, Hypothesis, SearchRules, few_sizes, force_scores
from nmt.model.cache import DecoderCache
from nmt.model.config import Positions, TransformerConfig
from nmt.model.transformer import Transformer

PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
BANNED = (PAD, UNKNOWN, BEGIN)
WORDS = (4, 5)
VOCABULARY = 6
CPU = torch.device("cpu")


@dataclass
class TreeCache:
    """What each beam has seen, as the number of its node in the tree of all prefixes."""

    tables: Tensor  # [B, nodes, V]
    nodes: Tensor  # [B, W]
    begun: Tensor  # [B]

    @classmethod
    def start(cls, tables: Tensor, beam_size: int) -> "TreeCache":
        nodes = torch.zeros(len(tables), beam_size, dtype=torch.long)
        return cls(tables, nodes, torch.zeros(len(tables), dtype=torch.bool))

    def reorder(self, origin_BW: Tensor) -> None:
        self.nodes = self.nodes.gather(1, origin_BW)

    def select(self, rows: Tensor) -> None:
        self.tables, self.nodes, self.begun = self.tables[rows], self.nodes[rows], self.begun[rows]

    def admit(self, rows: Tensor, other: "TreeCache") -> None:
        self.tables = self.tables.index_copy(0, rows, other.tables)
        self.nodes[rows] = other.nodes
        self.begun[rows] = other.begun


def tree_step(ids_BW: Tensor, cache: TreeCache) -> Tensor:
    beams = ids_BW.shape[1]
    nodes = cache.nodes[:, :beams]
    nodes = torch.where(cache.begun[:, None], nodes * VOCABULARY + ids_BW + 1, nodes)
    cache.nodes[:, :beams] = nodes
    cache.begun |= True
    # Beams that hold nothing may have walked out of the tree.
    nodes = nodes.clamp(max=cache.tables.shape[1] - 1)
    return cache.tables.gather(1, nodes.unsqueeze(-1).expand(-1, -1, VOCABULARY))


def random_tables(sentences: int, depth: int, seed: int, spread: float = 2.0) -> Tensor:
    nodes = sum(VOCABULARY**level for level in range(depth))
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sentences, nodes, VOCABULARY, generator=generator) * spread


def search(
    tables: Tensor,
    beam_size: int,
    max_lengths: list[int],
    length_penalty: float = 0.6,
    *,
    rows: int = 7,
    stopping: Stopping = Stopping.bound,
) -> list[list[Hypothesis]]:
    return BeamSearch(
        lambda numbers: TreeCache.start(tables[list(numbers)], beam_size),
        tree_step,
        make_rules(beam_size, length_penalty, stopping),
        max_lengths=max_lengths,
        rows=rows,
        device=CPU,
    ).run()


def make_rules(
    beam_size: int, length_penalty: float = 0.6, stopping: Stopping = Stopping.bound
) -> SearchRules:
    return SearchRules(
        beam_size=beam_size,
        begin_id=BEGIN,
        end_id=END,
        banned_ids=BANNED,
        penalty=Penalty(exponent=length_penalty),
        stopping=stopping,
    )


def continuations(table: Tensor, prefix: tuple[int, ...]) -> list[float]:
    node = 0
    for piece in prefix:
        node = node * VOCABULARY + piece + 1
    return table[node].double().log_softmax(-1).tolist()


def penalized(log_probability: float, length: int, exponent: float) -> float:
    return log_probability / ((5 + length) / 6) ** exponent


def brute_force(table: Tensor, max_length: int, exponent: float) -> list[tuple[list[int], float]]:
    """Every sequence of at most `max_length` pieces that ends with END, best first."""
    found = []
    for words in range(max_length):
        for sequence in itertools.product(WORDS, repeat=words):
            pieces = (*sequence, END)
            log_probability = sum(continuations(table, pieces[:i])[piece] for i, piece in enumerate(pieces))
            found.append((list(sequence), penalized(log_probability, words + 1, exponent)))
    return sorted(found, key=lambda item: -item[1])


def plain_beam_search(
    table: Tensor, width: int, max_length: int, exponent: float, stopping: Stopping = Stopping.bound
) -> list[tuple[list[int], float]]:
    """The documented rules once more, for one sentence, with lists instead of tensors."""
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    kept: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, max_length + 1):
        allowed = (END,) if length == max_length else (END, *WORDS)
        candidates = sorted(
            (
                (log_prob + continuations(table, prefix)[piece], (*prefix, piece))
                for log_prob, prefix in live
                for piece in allowed
            ),
            key=lambda item: -item[0],
        )
        kept += [(penalized(lp, length, exponent), p[:-1]) for lp, p in candidates[:width] if p[-1] == END]
        kept = sorted(kept, key=lambda item: -item[0])[:width]
        live = [item for item in candidates[: 2 * width] if item[1][-1] != END][:width]
        if not live or (kept and width == 1):
            break
        beatable = stopping is Stopping.bound and kept[-1:] < [(penalized(live[0][0], max_length, exponent),)]
        if len(kept) == width and not beatable:
            break
    return [(list(pieces), score) for score, pieces in kept]


def as_pairs(hypotheses: list[Hypothesis]) -> list[tuple[list[int], float]]:
    return [(hypothesis.pieces, hypothesis.score) for hypothesis in hypotheses]


def assert_same(found: list[Hypothesis], expected: list[tuple[list[int], float]]) -> None:
    assert [hypothesis.pieces for hypothesis in found] == [pieces for pieces, _ in expected]
    assert [hypothesis.score for hypothesis in found] == pytest.approx([s for _, s in expected], abs=1e-4)


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_every_sequence_in_order(seed: int, exponent: float) -> None:
    max_lengths = [5, 3, 1, 4]
    tables = random_tables(len(max_lengths), depth=5, seed=seed)
    found = search(tables, 2**5, max_lengths, exponent)
    for table, max_length, hypotheses in zip(tables, max_lengths, found, strict=True):
        assert_same(hypotheses, brute_force(table, max_length, exponent))


@pytest.mark.parametrize("stopping", Stopping)
@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_a_narrow_beam_follows_the_documented_rules(width: int, exponent: float, stopping: Stopping) -> None:
    max_lengths = [6, 2, 5, 6] * 8
    tables = random_tables(len(max_lengths), depth=6, seed=width)
    found = search(tables, width, max_lengths, exponent, stopping=stopping)
    for table, max_length, hypotheses in zip(tables, max_lengths, found, strict=True):
        assert_same(hypotheses, plain_beam_search(table, width, max_length, exponent, stopping))


@pytest.mark.parametrize("exponent", [0.0, 2.0])
def test_one_beam_is_greedy_search(exponent: float) -> None:
    tables = random_tables(40, depth=6, seed=0)
    for table, hypotheses in zip(tables, search(tables, 1, [6] * 40, exponent), strict=True):
        pieces: list[int] = []
        while len(pieces) < 5:
            log_probs = continuations(table, tuple(pieces))
            best = max((END, *WORDS), key=lambda piece: log_probs[piece])
            if best == END:
                break
            pieces.append(best)
        assert [hypothesis.pieces for hypothesis in hypotheses] == [pieces]


def test_scores_are_forced_scores_over_the_penalty() -> None:
    tables = random_tables(12, depth=6, seed=1)
    found = search(tables, 4, [6] * 12, 0.6)
    assert all(len(hypotheses) == 4 for hypotheses in found)
    forced = force_scores(
        tree_step,
        TreeCache.start(tables, 4),
        [[hypothesis.pieces for hypothesis in hypotheses] for hypotheses in found],
        begin_id=BEGIN,
        end_id=END,
        device=CPU,
    )
    for hypotheses, log_probabilities in zip(found, forced, strict=True):
        assert [h.log_probability for h in hypotheses] == pytest.approx(log_probabilities, abs=1e-5)
        assert [h.score for h in hypotheses] == pytest.approx(
            [penalized(h.log_probability, len(h.pieces) + 1, 0.6) for h in hypotheses], abs=1e-5
        )


@pytest.mark.parametrize("width", [1, 3])
def test_a_sentence_has_the_same_result_in_every_batch(width: int) -> None:
    count = 33
    tables = random_tables(count, depth=6, seed=2, spread=3.0)
    max_lengths = [1 + number % 6 for number in range(count)]
    together = search(tables, width, max_lengths)
    others = [
        [search(tables[i : i + 1], width, max_lengths[i : i + 1])[0] for i in range(count)],
        search(tables.flip(0), width, max_lengths[::-1])[::-1],
        *(search(tables, width, max_lengths, rows=rows) for rows in (1, 2, 16, 100)),
    ]
    for found in others:
        for own, expected in zip(found, together, strict=True):
            assert_same(own, as_pairs(expected))


def test_a_done_sentence_that_waits_for_others_to_leave_is_left_alone() -> None:
    tables = random_tables(20, depth=6, seed=5)
    # All but the first are in no hurry.
    tables[1:, :, END] = -20
    # The first ends at once, but its second best, a piece longer, has the better score for the penalty.
    tables[0, 0] = torch.tensor([-20, -20, -20, math.log(0.51), math.log(0.49), -20])
    tables[0, 1 + WORDS[0]] = torch.tensor([-20.0, -20, -20, 20, -20, -20])
    found = search(tables, 1, [6] * 20, 2.0)
    assert [hypothesis.pieces for hypothesis in found[0]] == [[]]
    assert brute_force(tables[0], 6, 2.0)[0][0] == [WORDS[0]]


def test_hypotheses_are_sorted_distinct_and_no_longer_than_allowed() -> None:
    max_lengths = [1, 2, 4, 6] * 4
    for hypotheses, max_length in zip(
        search(random_tables(16, depth=6, seed=3), 6, max_lengths), max_lengths, strict=True
    ):
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(hypothesis.pieces) for hypothesis in hypotheses}) == len(hypotheses) > 0
        for hypothesis in hypotheses:
            assert set(hypothesis.pieces) <= set(WORDS)
            assert len(hypothesis.pieces) + 1 <= max_length
            assert hypothesis.finished == (len(hypothesis.pieces) + 1 < max_length)


def test_equals_are_taken_in_the_order_of_their_pieces() -> None:
    tables = torch.zeros(2, 1 + 6 + 36, VOCABULARY)
    for hypotheses in search(tables, 7, [3, 3], 0.0):
        assert [h.pieces for h in hypotheses] == [[], [4], [5], [4, 4], [4, 5], [5, 4], [5, 5]]


def test_logits_that_are_no_numbers_give_no_hypotheses() -> None:
    tables = random_tables(2, depth=3, seed=4)
    tables[1] = torch.nan
    found = search(tables, 2, [3, 3])
    assert len(found[0]) == 2
    assert all(math.isfinite(hypothesis.score) for hypothesis in found[0])
    assert found[1] == []


def test_nothing_to_search() -> None:
    assert search(torch.zeros(0, 1, VOCABULARY), 2, []) == []


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(5)
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=2, width=32, heads=4, feed_forward_width=64, dropout=0.0
    )
    model = Transformer(config, source_vocabulary_size=40, target_vocabulary_size=40).eval()
    with torch.no_grad():
        # A fresh model repeats itself; sharper logits make sentences of all lengths.
        model.target_embedding.weight *= 2
    return model.requires_grad_(False)


def sources(count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(6)
    return [
        [*torch.randint(4, 40, (1 + number % 9,), generator=generator).tolist(), END]
        for number in range(count)
    ]


def search_model(
    model: Transformer, batch: list[list[int]], beam_size: int, rows: int = 4
) -> list[list[Hypothesis]]:
    def start(numbers: Sequence[int]) -> DecoderCache:
        own = [torch.tensor(batch[number]) for number in numbers]
        return model.start_cache(nn.utils.rnn.pad_sequence(own, batch_first=True), beam_size=beam_size)

    order = sorted(range(len(batch)), key=lambda number: -len(batch[number]))
    batch = [batch[number] for number in order]
    found = BeamSearch(
        start,
        model.step,
        make_rules(beam_size),
        max_lengths=[2 * len(pieces) + 3 for pieces in batch],
        rows=rows,
        device=CPU,
    ).run()
    return [found[order.index(number)] for number in range(len(batch))]


def full_log_probability(model: Transformer, source: list[int], pieces: list[int]) -> float:
    """By one pass over the whole sequence, without a cache."""
    source_BS, target_BT = torch.tensor([source]), torch.tensor([[BEGIN, *pieces]])
    logits_BTV = model(
        source_BS=source_BS,
        source_segments_BS=torch.ones_like(source_BS),
        source_positions_BS=torch.arange(len(source))[None],
        target_BT=target_BT,
        target_segments_BT=torch.ones_like(target_BT),
        target_positions_BT=torch.arange(target_BT.shape[1])[None],
    )
    log_probs_TV = logits_BTV[0].double().log_softmax(-1)
    return sum(log_probs_TV[place, piece].item() for place, piece in enumerate([*pieces, END]))


@pytest.mark.parametrize("beam_size", [1, 4])
def test_scores_of_the_model_are_those_of_full_decoding(model: Transformer, beam_size: int) -> None:
    batch = sources(10)
    found = search_model(model, batch, beam_size)
    lengths = set()
    for source, hypotheses in zip(batch, found, strict=True):
        for hypothesis in hypotheses:
            lengths.add(len(hypothesis.pieces))
            expected = full_log_probability(model, source, hypothesis.pieces)
            assert hypothesis.log_probability == pytest.approx(expected, abs=1e-3)
    assert len(lengths) > 2


def test_the_model_translates_a_sentence_alike_in_every_batch(model: Transformer) -> None:
    batch = sources(30)
    together = search_model(model, batch, 4)
    alone = [search_model(model, [source], 4)[0] for source in batch]
    assert [[h.pieces for h in own] for own in together] == [[h.pieces for h in own] for own in alone]


def test_learned_positions_need_not_reach_further_than_a_sentence() -> None:
    """Rows that change hands many times: a sentence's positions begin anew with it."""
    torch.manual_seed(5)
    batch = sources(60)
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        width=16,
        heads=2,
        feed_forward_width=16,
        positions=Positions.learned,
        max_positions=2 * max(map(len, batch)) + 3,
    )
    model = Transformer(config, source_vocabulary_size=40, target_vocabulary_size=40).eval()
    with torch.inference_mode():
        found, expected = (search_model(model, batch, 3, rows) for rows in (5, 60))
    assert [[h.pieces for h in own] for own in found] == [[h.pieces for h in own] for own in expected]


def test_many_rows_change_hands_eight_at_a_time() -> None:
    """Few different numbers of rows, and no other result."""
    depth, sentences = 5, 70
    tables = random_tables(sentences, depth, seed=11)
    max_lengths = [1 + number % depth for number in range(sentences)]
    seen: set[int] = set()

    def step(ids_BW: Tensor, cache: TreeCache) -> Tensor:
        seen.add(len(ids_BW))
        return tree_step(ids_BW, cache)

    found = BeamSearch(
        lambda numbers: TreeCache.start(tables[list(numbers)], 3),
        step,
        make_rules(3),
        max_lengths=sorted(max_lengths, reverse=True),
        rows=40,
        device=CPU,
    ).run()
    expected = search(tables, 3, sorted(max_lengths, reverse=True), rows=1)
    assert [[each.pieces for each in own] for own in found] == [
        [each.pieces for each in own] for own in expected
    ]
    assert max(seen) == 40
    assert len(seen) > 3


@pytest.mark.parametrize(
    ("beam_size", "sentences", "rows"), [(1, 333, 160), (4, 333, 160), (2, 75, 64), (3, 101, 24)]
)
def test_batches_have_few_sizes(beam_size: int, sentences: int, rows: int) -> None:
    sizes = []

    def step(ids_BW: Tensor, cache: TreeCache) -> Tensor:
        sizes.append(len(ids_BW))
        return tree_step(ids_BW, cache)

    tables = random_tables(sentences, 6, seed=5)
    max_lengths = sorted(((7 * number) % 19 + 2 for number in range(sentences)), reverse=True)
    found = BeamSearch(
        lambda numbers: TreeCache.start(tables[list(numbers)], beam_size),
        step,
        make_rules(beam_size),
        max_lengths=max_lengths,
        rows=rows,
        device=CPU,
    ).run()
    assert max(sizes) == rows
    assert min(sizes) < 24
    # Rows that are as long as they may be leave whatever their number.
    assert sum(size != few_sizes(size) for size in sizes) <= len(sizes) // 10
    expected = search(tables, beam_size, max_lengths, rows=1)
    assert [[each.pieces for each in own] for own in found] == [
        [each.pieces for each in own] for own in expected
    ]


def test_few_sizes_are_few_and_hold_what_is_asked() -> None:
    found = [few_sizes(rows) for rows in range(1, 1000)]
    assert all(rows <= size < max(rows * 1.26, rows + 8) for rows, size in enumerate(found, start=1))
    assert found[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 16]
    assert len(set(found)) < 35
    assert [few_sizes(size) for size in found] == found


@pytest.mark.parametrize("beam_size", [1, 3, 5])
def test_the_lengths_of_a_cache_are_few(beam_size: int) -> None:
    torch.manual_seed(3)
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward_width=32)
    model = Transformer(config, source_vocabulary_size=9, target_vocabulary_size=9).eval()
    lengths = set()
    with torch.inference_mode():
        cache = model.start_cache(torch.tensor([[4, 5, 3], [5, 3, 0]]), beam_size=beam_size)
        for _ in range(40):
            model.step(torch.full((2, beam_size), 4), cache)
            lengths.add(cache.ancestry_BWL.shape[2])
            cache.reorder(torch.zeros(2, beam_size, dtype=torch.long))
    assert all(length % 8 == 0 for length in lengths)

"""Samples follow their distribution and depend on nothing but seed, sentence and number."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from nmt.decoding.constraints.prefix import Prefixes
from nmt.decoding.extension import SearchRules
from nmt.decoding.guided import Guided
from nmt.decoding.sampling import Distribution, Sampling, draw, sentence_key
from tests.decoding.guided_trees import Guide, as_pieces, assert_same_in_every_batch, guided_search
from tests.decoding.test_search import CPU, END, WORDS, TreeCache, continuations, penalized, random_tables

# A right sampler fails a test so often.
RISK = 1e-6
DISTRIBUTIONS = [
    Distribution(),
    Distribution(temperature=0.5),
    Distribution(temperature=2.0),
    Distribution(top_k=2),
    Distribution(top_p=0.7),
    Distribution(temperature=1.5, top_k=2, top_p=0.8),
]


def sampler(distribution: Distribution, seed: int = 0, keys: Sequence[int] | None = None) -> Guide:
    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        own = [number if keys is None else keys[number] for number in numbers]
        choice = Sampling(rules, distribution, seed=seed, keys=own, device=CPU)
        return Guided(rules, CPU, choice=choice)

    return guide


def chances(log_probs: dict[int, float], distribution: Distribution) -> dict[int, float]:
    """The documented rules once more, with dictionaries."""
    powers = {piece: math.exp(value / distribution.temperature) for piece, value in log_probs.items()}
    ranked = sorted(powers, key=lambda piece: -powers[piece])[: distribution.top_k or None]
    whole, before, kept = sum(powers[piece] for piece in ranked), 0.0, {}
    for piece in ranked:
        if before < distribution.top_p * whole:
            kept[piece] = powers[piece]
        before += powers[piece]
    return {piece: power / sum(kept.values()) for piece, power in kept.items()}


def sequence_chances(
    table: torch.Tensor, length: int, distribution: Distribution, begun: tuple[int, ...] = ()
) -> dict[tuple[int, ...], float]:
    if len(begun) == length - 1:
        return {begun: 1.0}
    values = continuations(table, begun)
    found: dict[tuple[int, ...], float] = {}
    for piece, chance in chances({p: values[p] for p in (END, *WORDS)}, distribution).items():
        if piece == END:
            found[begun] = chance
            continue
        for sequence, rest in sequence_chances(table, length, distribution, (*begun, piece)).items():
            found[sequence] = chance * rest
    return found


def assert_drawn_from(counts: Counter[object], expected: dict[object, float]) -> None:
    """Chi-square test of goodness of fit."""
    draws = sum(counts.values())
    assert set(counts) <= set(expected)
    assert min(expected.values()) * draws >= 5
    statistic = sum((counts[each] - draws * share) ** 2 / (draws * share) for each, share in expected.items())
    freedom = torch.tensor((len(expected) - 1) / 2, dtype=torch.float64)
    chance = torch.special.gammaincc(freedom, torch.tensor(statistic / 2, dtype=torch.float64)).item()
    assert chance > RISK, (statistic, counts)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_sequences_are_as_frequent_as_they_are_probable(distribution: Distribution) -> None:
    sentences, samples = 3000, 4
    table = random_tables(1, depth=3, seed=4, spread=1.0)
    found = guided_search(
        table.expand(sentences, -1, -1), samples, [3] * sentences, sampler(distribution), rows=sentences
    )
    counts: Counter[object] = Counter(tuple(h.pieces) for own in found for h in own)
    assert sum(counts.values()) == sentences * samples
    assert_drawn_from(counts, {**sequence_chances(table[0], 3, distribution)})


def test_samples_of_a_sentence_and_of_different_seeds_are_independent() -> None:
    sentences, distribution = 6000, Distribution()
    table = random_tables(1, depth=2, seed=4, spread=1.0)
    tables, lengths = table.expand(sentences, -1, -1), [2] * sentences
    own = sequence_chances(table[0], 2, distribution)
    first, second = (
        as_pieces(guided_search(tables, 1, lengths, sampler(distribution, seed), rows=sentences))
        for seed in (1, 2)
    )
    pairs: Counter[object] = Counter((tuple(a[0]), tuple(b[0])) for a, b in zip(first, second, strict=True))
    assert_drawn_from(pairs, {(a, b): own[a] * own[b] for a in own for b in own})
    # Of two samples of one sentence the order is lost: they are sorted by score.
    couples: Counter[object] = Counter(
        tuple(sorted(map(tuple, each)))
        for each in as_pieces(guided_search(tables, 2, lengths, sampler(distribution), rows=sentences))
    )
    expected: Counter[object] = Counter()
    for a in own:
        for b in own:
            expected[tuple(sorted((a, b)))] += own[a] * own[b]
    assert_drawn_from(couples, dict(expected))


def test_positions_draw_independently() -> None:
    # The same distribution at every position: which piece is second tells nothing about the first.
    table = torch.full((1, 1 + 6 + 36, 6), -30.0)
    table[..., WORDS] = 0
    found = guided_search(table.expand(4000, -1, -1), 1, [3] * 4000, sampler(Distribution()), rows=4000)
    counts: Counter[object] = Counter(tuple(own[0]) for own in as_pieces(found))
    assert_drawn_from(counts, {(a, b): 0.25 for a in WORDS for b in WORDS})


def test_log_probabilities_are_the_models_own() -> None:
    tables = random_tables(20, depth=5, seed=1)
    found = guided_search(tables, 3, [5] * 20, sampler(Distribution(temperature=3.0, top_k=2)))
    for table, own in zip(tables, found, strict=True):
        assert len(own) == 3
        assert [h.score for h in own] == sorted((h.score for h in own), reverse=True)
        for hypothesis in own:
            pieces = (*hypothesis.pieces, END)
            expected = sum(continuations(table, pieces[:i])[piece] for i, piece in enumerate(pieces))
            assert hypothesis.log_probability == pytest.approx(expected, abs=1e-4)
            assert hypothesis.score == pytest.approx(penalized(expected, len(pieces), 0.6), abs=1e-4)


@pytest.mark.parametrize("width", [1, 3])
def test_batches_do_not_matter(width: int) -> None:
    tables = random_tables(24, depth=6, seed=2)
    guide = sampler(Distribution(top_p=0.9), keys=[sentence_key([number]) for number in range(24)])
    assert_same_in_every_batch(tables, width, [6, 4, 2, 5] * 6, guide)


def test_equal_sentences_have_equal_samples_and_another_seed_others() -> None:
    tables = random_tables(1, depth=6, seed=2, spread=0.5).expand(40, -1, -1)
    keys = [sentence_key([number % 20]) for number in range(40)]
    found = as_pieces(guided_search(tables, 1, [6] * 40, sampler(Distribution(), keys=keys)))
    again = as_pieces(guided_search(tables, 1, [6] * 40, sampler(Distribution(), keys=keys)))
    other = as_pieces(guided_search(tables, 1, [6] * 40, sampler(Distribution(), seed=1, keys=keys)))
    assert found == again
    assert found[:20] == found[20:]
    assert sum(a != b for a, b in zip(found[:20], other[:20], strict=True)) > 10
    assert len({tuple(own[0]) for own in found}) > 5


def test_samples_keep_to_constraints() -> None:
    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        choice = Sampling(rules, Distribution(), seed=0, keys=numbers, device=CPU)
        prefixes = Prefixes([[5, 4]] * len(numbers), CPU)
        return Guided(rules, CPU, constraints=[prefixes], choice=choice)

    found = as_pieces(guided_search(random_tables(10, depth=6, seed=2), 3, [6] * 10, guide))
    assert all(len(own) == 3 and pieces[:2] == [5, 4] for own in found for pieces in own)


def test_what_has_no_share_is_not_drawn() -> None:
    shares = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0]).expand(50, 20, 5)
    assert {*draw(shares, torch.rand(50, 20, 5)).flatten().tolist()} == {1, 3}
    assert draw(shares[:1, :1], torch.tensor([[[1e-9, 0.5, 1e-9, 1.0, 1e-9]]])).item() == 1

"""The coverage penalty."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from nmt.decoding.coverage import Coverage
from nmt.decoding.extension import SearchRules
from nmt.decoding.guided import Guided
from nmt.model import attention as attention_module
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from tests.decoding.guided_trees import Guide, assert_same_in_every_batch, guided_search
from tests.decoding.test_search import (
    CPU,
    END,
    VOCABULARY,
    WORDS,
    TreeCache,
    assert_same,
    continuations,
    penalized,
    random_tables,
)

SOURCE = 4


class AttentiveTrees:
    """Trees each of whose nodes attends to the source somehow, END at its end."""

    def __init__(self, sentences: int, depth: int, seed: int) -> None:
        self.tables = random_tables(sentences, depth, seed)
        generator = torch.Generator().manual_seed(seed)
        nodes = self.tables.shape[1]
        self.lengths = [1 + number % SOURCE for number in range(sentences)]
        scores = torch.randn(sentences, nodes, SOURCE + 1, generator=generator) * 3
        outside = torch.arange(SOURCE + 1) > torch.tensor(self.lengths)[:, None]
        self.attention = scores.masked_fill(outside[:, None], -torch.inf).softmax(-1)

    def guide(self, strength: float) -> Guide:
        def attention(cache: TreeCache) -> Tensor:
            # The table tells which sentence a row holds.
            rows = [
                next(n for n, own in enumerate(self.tables) if torch.equal(own, table))
                for table in cache.tables
            ]
            beams = 1 if (cache.nodes == 0).all() else cache.nodes.shape[1]
            longest = 1 + max(self.lengths[row] for row in rows)
            nodes = cache.nodes[:, :beams].clamp(max=self.attention.shape[1] - 1)
            return self.attention[torch.tensor(rows)[:, None], nodes][..., :longest]

        def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
            lengths = [self.lengths[number] for number in numbers]
            coverage = Coverage(strength, attention, lengths=lengths, beams=rules.beam_size, device=CPU)
            return Guided(rules, CPU, coverage=coverage)

        return guide

    def all_sequences(self, number: int, max_length: int, strength: float) -> list[tuple[list[int], float]]:
        found = []
        for words in range(max_length):
            for sequence in itertools.product(WORDS, repeat=words):
                pieces, node, sums, log_probability = (*sequence, END), 0, torch.zeros(SOURCE + 1), 0.0
                for place, piece in enumerate(pieces):
                    sums = sums + self.attention[number, node]
                    log_probability += continuations(self.tables[number], pieces[:place])[piece]
                    node = node * VOCABULARY + piece + 1
                costs = sum(math.log(min(each, 1.0)) for each in sums[: self.lengths[number]].tolist())
                score = penalized(log_probability, words + 1, 0.6) + strength * costs
                found.append((list(sequence), score))
        return sorted(found, key=lambda item: -item[1])


@pytest.mark.parametrize("strength", [0.2, 5.0])
def test_a_wide_beam_finds_every_sequence_in_the_order_of_penalised_scores(strength: float) -> None:
    trees = AttentiveTrees(6, depth=5, seed=1)
    found = guided_search(trees.tables, 32, [5] * 6, trees.guide(strength), rows=4)
    changed = 0
    for number, own in enumerate(found):
        assert_same(own, trees.all_sequences(number, 5, strength))
        changed += own[0].pieces != trees.all_sequences(number, 5, 0.0)[0][0]
    assert changed or strength < 1


def test_batches_do_not_matter() -> None:
    trees = AttentiveTrees(12, depth=5, seed=2)
    assert_same_in_every_batch(trees.tables, 3, [5, 4, 2] * 4, trees.guide(1.0))


def test_attention_is_that_of_the_last_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=2, width=16, heads=2, feed_forward_width=32, dropout=0.0
    )
    model = Transformer(config, source_vocabulary_size=20, target_vocabulary_size=20).eval()
    seen: list[Tensor] = []
    original = attention_module.attention_shares

    def record(*arguments: Tensor) -> Tensor:
        seen.append(original(*arguments))
        return seen[-1]

    monkeypatch.setattr(attention_module, "attention_shares", record)
    cache = model.start_cache(torch.tensor([[4, 5, 6, 7, END], [8, 9, END, 0, 0]]), beam_size=2)
    cache.keep_attention()
    model.step(torch.full((2, 1), 2), cache)
    model.step(torch.tensor([[4, 5], [6, 7]]), cache)
    attention_BWS = cache.attention
    assert attention_BWS.shape == (2, 2, 5)
    torch.testing.assert_close(attention_BWS, seen[-1].mean(1))
    torch.testing.assert_close(attention_BWS.sum(-1), torch.ones(2, 2))
    assert attention_BWS[1, :, 3:].abs().max() == 0

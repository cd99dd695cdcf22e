"""Links are where the attention is, by word, whatever else is in the batch."""

import pytest
import torch

from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.decoding import alignment
from nmt.decoding.alignment import align, aligned, best_links, default_layers, pharaoh
from nmt.decoding.ensemble import Ensemble
from nmt.decoding.translation import Candidate
from nmt.model.config import Positions, TransformerConfig
from nmt.model.transformer import Transformer

SENTENCES = [
    "The small dog sees the old cat.",
    "Where is the house?",
    "A",
    "",
    "Seven ships  with white sails ",
    " ",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(
        [(each, each.upper()) for each in SENTENCES] * 9, TokenizerConfig(vocabulary_size=330)
    )


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    torch.manual_seed(1)
    config = TransformerConfig(encoder_layers=1, decoder_layers=3, width=32, heads=4, feed_forward_width=48)
    size = tokenizer.target_vocabulary_size
    model = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size)
    for parameter in model.parameters():
        parameter.data.mul_(2)
    return model


def test_a_word_is_linked_to_the_word_whose_pieces_have_most_of_its_attention() -> None:
    weights = torch.tensor(
        [
            # Source pieces a1 a2 b: the single greatest weight is b's, the sum is a's.
            [0.3, 0.3, 0.4],
            # The second target word: both pieces look at b, one of them less than the other at a.
            [0.5, 0.1, 0.4],
            [0.0, 0.1, 0.9],
        ]
    )
    assert best_links(weights, [0, 0, 1], [0, 1, 1]) == [(0, 0), (1, 1)]
    # A word that normalisation has dropped has no pieces, no links, and keeps its number.
    assert best_links(weights, [0, 0, 2], [1, 3, 3]) == [(0, 1), (2, 3)]
    assert best_links(weights[:0], [0, 0, 1], []) == []
    assert best_links(weights[:, :0], [], [0, 1, 1]) == []


def test_every_target_word_has_one_link_and_blank_sides_none(
    model: Transformer, tokenizer: Tokenizer
) -> None:
    targets = [sentence.upper() for sentence in reversed(SENTENCES)]
    found = align(model, tokenizer, SENTENCES, targets)
    assert len(found) == len(SENTENCES)
    for links, source, target in zip(found, SENTENCES, targets, strict=True):
        if source.strip() and target.strip():
            assert [word for _, word in links] == list(range(len(target.split())))
            assert all(0 <= word < len(source.split()) for word, _ in links)
        else:
            assert links == []


def test_batches_and_order_change_nothing(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = [sentence.upper() for sentence in SENTENCES]
    together = align(model, tokenizer, SENTENCES, targets)
    monkeypatch.setattr(alignment, "_MAX_TOKENS", 1)
    assert align(model, tokenizer, SENTENCES, targets) == together
    assert align(model, tokenizer, SENTENCES[::-1], targets[::-1]) == together[::-1]
    assert align(model, tokenizer, [], []) == []


def test_the_layers_are_chosen(model: Transformer, tokenizer: Tokenizer) -> None:
    found = [align(model, tokenizer, SENTENCES, SENTENCES, layers=[layer]) for layer in range(3)]
    assert found[0] != found[1] != found[2]
    assert align(model, tokenizer, SENTENCES, SENTENCES) == align(
        model, tokenizer, SENTENCES, SENTENCES, layers=[1, 2]
    )
    with pytest.raises(ValueError, match=r"layers \[3\] are not among the decoder's, 0 to 2"):
        align(model, tokenizer, SENTENCES, SENTENCES, layers=[3])
    assert [default_layers(count) for count in (1, 2, 6)] == [[0], [0, 1], [4, 5]]


def test_a_word_is_linked_by_the_step_that_writes_it(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder whose steps look at fixed places: the links are those of the step before the word is read."""
    text, count = "A A A", 3
    pieces = tokenizer.encode_target([text])[0]
    words = tokenizer.words_target(text)
    weights_TS = torch.zeros(len(pieces), len(pieces))
    # The steps that write word w look at source word 2 - w.
    for step, word in enumerate(words):
        weights_TS[step, len(words) - 1 - words[::-1].index(count - 1 - word)] = 1
    weights_TS[-1, -1] = 1
    monkeypatch.setattr(alignment, "cross_attention_weights", lambda *_, **__: [weights_TS[None, None]])
    links = align(model, tokenizer, [text], [text])
    assert links == [[(2, 0), (1, 1), (0, 2)]]


def test_attached_punctuation_has_no_say(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "A. A - ."
    pieces, words = tokenizer.pieces_target(text), tokenizer.words_target(text)
    assert [piece for piece, word in zip(pieces, words, strict=True) if word == 0][-1] == "."
    # Every piece looks at the full stop of the first word, and less at the letter of the second.
    weights_TS = torch.zeros(len(pieces) + 1, len(pieces) + 1)
    weights_TS[:, pieces.index(".")] = 0.6
    weights_TS[:, words.index(1) : words.index(2)] = 0.1
    # The full stop of the first word is sure that it is the last word.
    weights_TS[pieces.index("."), words.index(3)] = 5
    monkeypatch.setattr(alignment, "cross_attention_weights", lambda *_, **__: [weights_TS[None, None]])
    assert align(model, tokenizer, [text], [text]) == [[(1, 0), (1, 1), (1, 2), (1, 3)]]


def test_an_ensemble_aligns_with_the_mean_of_its_members(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = [sentence.upper() for sentence in SENTENCES]
    alone = align(model, tokenizer, SENTENCES, targets)
    assert align(Ensemble([model, model]), tokenizer, SENTENCES, targets) == alone
    # One member looks at the second word, the other, less surely, at the first.
    weights = iter([torch.tensor([[0.2, 0.8, 0.0]] * 3), torch.tensor([[0.6, 0.4, 0.0]] * 3)])
    monkeypatch.setattr(alignment, "cross_attention_weights", lambda *_, **__: [next(weights)[None, None]])
    monkeypatch.setattr(tokenizer, "words_source", lambda text: [0, 1])
    monkeypatch.setattr(tokenizer, "words_target", lambda text: [0, 1])
    monkeypatch.setattr(tokenizer, "pieces_source", lambda text: ["a", "b"])
    monkeypatch.setattr(tokenizer, "pieces_target", lambda text: ["a", "b"])
    assert align(Ensemble([model, model]), tokenizer, ["a b"], ["A B"]) == [[(1, 0), (1, 1)]]


def test_a_candidate_that_is_too_long_stays_without(tokenizer: Tokenizer) -> None:
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        width=32,
        heads=4,
        feed_forward_width=48,
        positions=Positions.learned,
        max_positions=6,
    )
    size = tokenizer.target_vocabulary_size
    short = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size)
    texts = ["A", "A A A A A A A A A", "A A"]
    given = [[Candidate(text=text, score=0.0, log_probability=0.0, finished=True) for text in texts], []]
    found = aligned(short, tokenizer, ["A", "A"], given)
    assert [each.alignment for each in found[0]] == [((0, 0),), None, ((0, 0), (0, 1))]
    assert found[1] == []


def test_pharaoh_notation() -> None:
    assert pharaoh([(0, 0), (3, 1), (1, 2)]) == "0-0 3-1 1-2"
    assert pharaoh([]) == ""

"""Everything that can be asked of a search, through the engine, in text."""

import random
import re
from typing import Any

import pytest
import torch

from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import END_ID, Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.decoding.constraint_text import prefix_pieces, term_pieces
from nmt.decoding.engine import Engine
from nmt.decoding.guidance import ConstraintError
from nmt.model.config import Positions, TransformerConfig
from nmt.model.transformer import Transformer

SENTENCES = [
    "The small dog sees the old cat.",
    "Where is the house?",
    "Two men walk to the station, and they wait there for the train!",
    "He said: “I do not know.” Then he left the room.",
    "Seven ships with eight white sails",
]
FEATURES: dict[str, dict[str, Any]] = {
    "greedy": {"beam_size": 1},
    "beam": {},
    "coverage": {"coverage_penalty": 0.5},
    "repetition": {"no_repeat_ngram": 2},
    "diverse": {"diverse_groups": 2},
    "samples": {"temperature": 1.0, "top_k": 20, "top_p": 0.9},
    "words": {"banned_words": ["the", "e"]},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    config = TokenizerConfig(vocabulary_size=340)
    return Tokenizer.train([(sentence, sentence.lower()) for sentence in SENTENCES], config)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    return make_model(tokenizer)


def make_model(tokenizer: Tokenizer, positions: Positions = Positions.sinusoidal) -> Transformer:
    torch.manual_seed(1)
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=2,
        width=16,
        heads=2,
        feed_forward_width=32,
        positions=positions,
        max_positions=24,
    )
    size = tokenizer.source_vocabulary_size
    model = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def make_engine(model: Transformer, tokenizer: Tokenizer, **changes: Any) -> Engine:
    settings = {"beam_size": 4, "precision": "float32", "max_length_ratio": 1.0, "max_length_offset": 6}
    return Engine(model, DecodingConfig(**{**settings, **changes}), torch.device("cpu"), tokenizer=tokenizer)


def sources(tokenizer: Tokenizer, count: int = 20) -> list[list[int]]:
    draw = random.Random(1)
    words = " ".join(SENTENCES).split()
    texts = [" ".join(draw.choices(words, k=1 + number % 7)) for number in range(count)]
    return tokenizer.encode_source(texts)


def asked(tokenizer: Tokenizer, count: int = 20) -> tuple[list[list[int]], list[list[list[int]]], list[str]]:
    prefixes = ["the small", "", "he sai", "two"]
    terms = [["old cat", "ships"], ["station"], [], ["i do not know", "white"]]
    return (
        [prefix_pieces(tokenizer, prefixes[n % 4]) for n in range(count)],
        [term_pieces(tokenizer, terms[n % 4]) for n in range(count)],
        [prefixes[n % 4] for n in range(count)],
    )


def test_prefixes_are_kept_and_terms_appear_as_words(model: Transformer, tokenizer: Tokenizer) -> None:
    engine = make_engine(model, tokenizer)
    prefixes, terms, prefix_texts = asked(tokenizer)
    found = engine.search(sources(tokenizer), prefixes=prefixes, terms=terms)
    for own, wanted, begin in zip(found, terms, prefix_texts, strict=True):
        assert own
        for text in tokenizer.decode_target([hypothesis.pieces for hypothesis in own]):
            assert text.startswith(begin)
            for term in tokenizer.decode_target(wanted):
                assert re.search(rf"(?<!\w){term}(?!\w)", text)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_banned_words_never_appear(model: Transformer, tokenizer: Tokenizer, beam_size: int) -> None:
    def translations(**changes: Any) -> list[str]:
        engine = make_engine(model, tokenizer, beam_size=beam_size, **changes)
        found = engine.search(sources(tokenizer))
        return [text for own in found for text in tokenizer.decode_target([h.pieces for h in own])]

    banned: list[str] = []
    for _ in range(3):
        texts = translations(banned_words=banned)
        assert texts
        found = sorted({word for text in texts for word in re.findall(r"\w+", text)})
        assert not {*found} & {*banned}
        banned += found[:20]


@pytest.mark.parametrize("feature", FEATURES)
def test_a_sentence_has_the_same_result_in_every_batch(
    model: Transformer, tokenizer: Tokenizer, feature: str
) -> None:
    engine = make_engine(model, tokenizer, **FEATURES[feature])
    own = sources(tokenizer)
    prefixes, terms, _ = asked(tokenizer)
    if feature in ("greedy", "diverse", "samples", "words"):
        terms = [[]] * len(own)
    if feature == "words":
        prefixes = [[]] * len(own)

    def search(order: list[int], budget: int) -> list[list[list[int]]]:
        engine.config.max_tokens_per_batch = budget
        found = engine.search(
            [own[n] for n in order],
            prefixes=[prefixes[n] for n in order],
            terms=[terms[n] for n in order],
        )
        pieces = {n: [h.pieces for h in each] for n, each in zip(order, found, strict=True)}
        return [pieces[n] for n in range(len(own))]

    order = list(range(len(own)))
    together = search(order, 10000)
    assert all(together)
    assert search(order[::-1], 10000) == together
    assert search(order, 1) == together
    assert search(order, 300) == together


@pytest.mark.parametrize("feature", FEATURES)
def test_hypotheses_are_sorted_and_those_of_a_search_distinct(
    model: Transformer, tokenizer: Tokenizer, feature: str
) -> None:
    for own in make_engine(model, tokenizer, **FEATURES[feature]).search(sources(tokenizer)):
        assert [h.score for h in own] == sorted((h.score for h in own), reverse=True)
        assert feature == "samples" or len({tuple(h.pieces) for h in own}) == len(own)


def test_a_limit_gives_way_to_prefix_and_terms(model: Transformer, tokenizer: Tokenizer) -> None:
    engine = make_engine(model, tokenizer, max_length_ratio=0.0, max_length_offset=1)
    source, prefix = sources(tokenizer, 1), [prefix_pieces(tokenizer, "two men walk")]
    terms = [term_pieces(tokenizer, ["the train"])]
    (hypotheses,) = engine.search(source, prefixes=prefix, terms=terms)
    assert tokenizer.decode_target([hypotheses[0].pieces]) == ["two men walk the train"]
    learned = make_engine(make_model(tokenizer, Positions.learned), tokenizer)
    with pytest.raises(ConstraintError, match=r"sentence 1: prefix and terms are longer than .* 24 pieces"):
        learned.search(source, prefixes=[prefix[0] * 10])


def test_contradictions_are_refused(model: Transformer, tokenizer: Tokenizer) -> None:
    source, terms = sources(tokenizer, 2), [[], term_pieces(tokenizer, ["cat"])]
    for changes, message in (
        ({"beam_size": 1}, "sentence 2: terms need decoding.beam_size"),
        ({"temperature": 1.0}, "sentence 2: .* decoding.temperature"),
        ({"diverse_groups": 2}, "sentence 2: .* decoding.diverse_groups"),
        ({"banned_words": ["cat"]}, "sentence 2: .* decoding.banned_words"),
    ):
        with pytest.raises(ConstraintError, match=message):
            make_engine(model, tokenizer, **changes).search(source, terms=terms)
    engine = make_engine(model, tokenizer, banned_words=["old cat"])
    with pytest.raises(ConstraintError, match="sentence 1"):
        engine.search(source[:1], prefixes=[prefix_pieces(tokenizer, "the old cat")])
    with pytest.raises(ConstraintError, match="special pieces"):
        engine.search(source[:1], prefixes=[[END_ID]])
    with pytest.raises(ConstraintError, match="blank"):
        term_pieces(tokenizer, [" "])
    with pytest.raises(ConstraintError, match="tokenizer"):
        Engine(model, DecodingConfig(banned_words=["a"]), torch.device("cpu"))


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"top_k": 5}, ["top_k", "temperature"]),
        ({"top_p": 0.5}, ["top_p", "temperature"]),
        ({"temperature": 1.0, "diverse_groups": 5}, ["temperature", "diverse_groups"]),
        ({"beam_size": 5, "diverse_groups": 2}, ["beam_size", "diverse_groups"]),
        ({"beam_size": 4, "diverse_groups": 2, "diversity": 0.0}, ["diverse_groups", "diversity"]),
        ({"beam_size": 1, "coverage_penalty": 0.1}, ["coverage_penalty", "beam_size"]),
        ({"temperature": -1.0}, ["temperature"]),
        ({"temperature": float("nan")}, ["temperature"]),
        ({"temperature": 1.0, "top_p": 0.0}, ["top_p"]),
        ({"no_repeat_ngram": -1}, ["no_repeat_ngram"]),
        ({"banned_words": [" "]}, ["banned_words"]),
    ],
)
def test_settings_that_contradict_each_other_are_named(settings: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(ValueError, match="decoding") as caught:
        DecodingConfig(**settings)
    assert all(f"decoding.{name}" in str(caught.value) for name in fields)

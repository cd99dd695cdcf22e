"""Forced scores equal those of the search, one step at a time, whatever else is in the batch."""

import random
from pathlib import Path

import pytest
import torch

from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import BEGIN_ID, END_ID, Tokenizer
from nmt.decoding import scoring
from nmt.decoding.config import DecodingConfig
from nmt.decoding.engine import Engine
from nmt.decoding.scoring import ForcedScore, TotalScore, score_lines, score_pieces
from nmt.decoding.search import force_scores
from nmt.model.config import Positions, TransformerConfig
from nmt.model.teacher_forcing import LengthError
from nmt.model.transformer import Transformer

CPU = torch.device("cpu")
WORDS = ["the", "small", "old", "dog", "cat", "house", "sees", "hears", "in", "of", "Über", "größer"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(
        [(" ".join(WORDS), " ".join(WORDS).upper())] * 20, TokenizerConfig(vocabulary_size=340)
    )


def make_model(tokenizer: Tokenizer, positions: Positions = Positions.sinusoidal) -> Transformer:
    torch.manual_seed(1)
    config = TransformerConfig(
        encoder_layers=2,
        decoder_layers=2,
        width=32,
        heads=4,
        feed_forward_width=48,
        positions=positions,
        max_positions=24,
    )
    size = tokenizer.target_vocabulary_size
    model = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size)
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


def draw_lines(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(count)]


def stepwise(model: Transformer, source: list[int], target: list[int]) -> float:
    """The search's own way: the cache, and one piece after the other."""
    cache = model.start_cache(torch.tensor([source]), beam_size=1)
    ((score,),) = force_scores(
        model.step, cache, [[target[:-1]]], begin_id=BEGIN_ID, end_id=END_ID, device=CPU
    )
    return score


@torch.no_grad()
def test_scores_are_those_of_the_search(tokenizer: Tokenizer) -> None:
    model = make_model(tokenizer).eval()
    sources, targets = draw_lines(40, 1), draw_lines(40, 2)
    found = list(score_lines(model, tokenizer, zip(sources, targets, strict=True)))
    for score, source, target in zip(
        found, tokenizer.encode_source(sources), tokenizer.encode_target(targets), strict=True
    ):
        assert score.log_probability == pytest.approx(stepwise(model, source, target), rel=1e-5)
        assert score.pieces == len(target)


def test_our_own_translations_have_the_log_probability_that_the_beam_gave_them(tokenizer: Tokenizer) -> None:
    model = make_model(tokenizer).eval()
    config = DecodingConfig(beam_size=4, max_length_ratio=0, max_length_offset=12, precision="float32")
    sources = tokenizer.encode_source(draw_lines(20, 3))
    hypotheses = Engine(model, config, CPU).search(sources)
    pairs = [(source, each) for source, own in zip(sources, hypotheses, strict=True) for each in own]
    assert len(pairs) == 80
    found = score_pieces(
        model, [source for source, _ in pairs], [[*each.pieces, END_ID] for _, each in pairs]
    )
    expected = [each.log_probability for _, each in pairs]
    assert found == pytest.approx(expected, rel=1e-5)


def test_batches_and_windows_change_nothing(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tokenizer)
    pairs = [*zip(draw_lines(30, 4), draw_lines(30, 5), strict=True)]
    together = list(score_lines(model, tokenizer, pairs))
    assert model.training
    monkeypatch.setattr(scoring, "_MAX_TOKENS", 1)
    monkeypatch.setattr(scoring, "_WINDOW_PAIRS", 7)
    alone = list(score_lines(model, tokenizer, iter(pairs)))
    assert [score.pieces for score in alone] == [score.pieces for score in together]
    assert [score.log_probability for score in alone] == pytest.approx(
        [score.log_probability for score in together], rel=1e-5
    )


def test_no_batch_is_larger_than_allowed(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    forced = scoring.forced_logits

    def note(
        model: Transformer, sources: list[list[int]], targets: list[list[int]], *, begin_id: int
    ) -> object:
        seen.append((len(targets), max(map(len, [*sources, *targets]))))
        return forced(model, sources, targets, begin_id=begin_id)

    monkeypatch.setattr(scoring, "forced_logits", note)
    monkeypatch.setattr(scoring, "_MAX_TOKENS", 64)
    lines = draw_lines(50, 6)
    list(score_lines(make_model(tokenizer), tokenizer, zip(lines, reversed(lines), strict=True)))
    assert all(count * longest <= 64 or count == 1 for count, longest in seen)
    assert max(count for count, _ in seen) > 1
    monkeypatch.setattr(scoring, "_MAX_LOGITS", 10 * tokenizer.target_vocabulary_size)
    seen.clear()
    list(score_lines(make_model(tokenizer), tokenizer, zip(lines, reversed(lines), strict=True)))
    assert all(count * longest <= 10 or count == 1 for count, longest in seen)


def test_blank_lines_keep_their_places(tokenizer: Tokenizer) -> None:
    model = make_model(tokenizer)
    pairs = [("", ""), ("the dog", "THE DOG"), (" ", "\t"), ("the dog", ""), ("", "THE")]
    found = list(score_lines(model, tokenizer, pairs))
    assert found[0] == found[2] == ForcedScore(0.0, 0)
    # To say nothing about something has a probability: that of END.
    assert found[3].pieces == 1
    assert all(found[place].log_probability < 0 for place in (1, 3, 4))
    total = TotalScore()
    for score in found:
        total.add(score)
    assert (total.pairs, total.pieces) == (5, sum(score.pieces for score in found))
    assert total.log_probability == pytest.approx(sum(score.log_probability for score in found))


def test_what_learned_positions_do_not_reach_is_named_by_its_line(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = make_model(tokenizer, Positions.learned)
    pairs = [("the", "THE"), ("the", " ".join(WORDS))]
    with pytest.raises(LengthError, match=r"line 2 has \d+ pieces, .* end at 24"):
        list(score_lines(model, tokenizer, pairs))

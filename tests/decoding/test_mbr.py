"""Minimum Bayes risk: the pairs are those of sacrebleu, and the choice is the one that a plain loop makes."""

import logging
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from nmt.decoding.config import DecodingConfig, MbrUtility
from nmt.decoding.mbr import by_agreement, expected_utilities, pairwise
from nmt.decoding.translation import Candidate

UTILITIES = [MbrUtility.chrf, MbrUtility.bleu]
ODD = [
    "",
    " ",
    "a",
    "ab",
    "ha ha ha ha ha ha",
    "…",
    "Ein kleiner Hund .",
    "\u200b",
    "🙂 🙂",
    "ein",
    "Ein,kleiner",
]
WORDS = [
    "ein",
    "kleiner",
    "Hund",
    "läuft",
    "über",
    "die",
    "grüne",
    "Wiese",
    ",",
    "und",
    "zwei",
    "Männer",
    "sehen",
    "ihm",
    "zu",
    ".",
]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)


def sacrebleu_score(hypothesis: str, reference: str, utility: MbrUtility) -> float:
    metric = CHRF() if utility is MbrUtility.chrf else BLEU(effective_order=True)
    score: float = metric.sentence_score(hypothesis, [reference]).score
    return score


def candidates(draw: random.Random, count: int) -> list[str]:
    """Variants of one sentence, as a search finds them, some of them alike."""
    found = []
    for _ in range(count):
        words = list(WORDS[: draw.randint(3, len(WORDS))])
        for _ in range(draw.randint(0, 3)):
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        found.append(" ".join(words))
    return found


def choice(
    texts: Sequence[str], utility: MbrUtility = MbrUtility.chrf, *, weights: Sequence[float] | None = None
) -> str:
    """The text that is chosen, of what a search has found and that counts so much, or of samples."""
    found = [
        Candidate(
            # What a search has found counts by the root of its probability.
            text=text,
            score=0.0,
            log_probability=2 * math.log(weight) if weight else -math.inf,
            finished=True,
        )
        for text, weight in zip(texts, weights or [1.0] * len(texts), strict=True)
    ]
    ranked = by_agreement(found, utility, sampled=weights is None)
    assert [each.score for each in ranked] == sorted((each.score for each in ranked), reverse=True)
    return ranked[0].text


@pytest.mark.parametrize("utility", UTILITIES)
def test_pairs_are_those_of_sacrebleu(utility: MbrUtility) -> None:
    draw = random.Random(1)
    for texts in (ODD, *(candidates(draw, 6) for _ in range(10))):
        found = pairwise(texts, utility)
        expected = [[sacrebleu_score(hypothesis, other, utility) for other in texts] for hypothesis in texts]
        if utility is MbrUtility.chrf:
            assert found.tolist() == expected
        else:
            assert found == pytest.approx(np.array(expected), abs=1e-9)


@pytest.mark.parametrize("utility", UTILITIES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_choice_is_that_of_a_plain_loop(utility: MbrUtility, weighted: bool) -> None:
    draw = random.Random(2)
    sentences = [candidates(draw, draw.randint(1, 8)) for _ in range(25)]
    weights = [[draw.random() if weighted else 1.0 for _ in own] for own in sentences]
    places = set()
    for own, shares in zip(sentences, weights, strict=True):
        sums = [
            sum(share * sacrebleu_score(h, r, utility) for r, share in zip(own, shares, strict=True))
            for h in own
        ]
        best = max(range(len(own)), key=lambda place: round(sums[place] / sum(shares), 9))
        places.add(best)
        found = expected_utilities(own, utility=utility, weights=shares)
        assert found == pytest.approx(np.array(sums) / sum(shares), abs=1e-8)
        assert choice(own, utility, weights=shares if weighted else None) == own[best]
    assert len(places) > 2


def test_a_text_counts_as_often_as_it_was_drawn() -> None:
    texts = ["ein Hund", "ein Hund läuft", "zwei Katzen"]
    assert choice(texts) == texts[1]
    assert choice([*texts, texts[2], texts[2]]) == texts[2]
    drawn = expected_utilities([*texts, texts[2]], utility=MbrUtility.bleu)
    weighted = expected_utilities(texts, utility=MbrUtility.bleu, weights=[1, 1, 2])
    assert drawn[:3].tolist() == weighted.tolist()
    assert drawn[3] == drawn[2]


def test_a_candidate_without_weight_can_still_be_chosen() -> None:
    texts = ["ein Hund läuft", "ein Hund", "Hund läuft"]
    assert choice(texts, weights=[0, 1, 1]) == texts[0]


def test_of_equals_the_first_is_chosen() -> None:
    for texts in (["a b", "c d"], ["c d", "a b"], ["x"], ["", ""]):
        assert choice(texts) == choice(texts, MbrUtility.bleu) == texts[0]


def test_languages_without_spaces_are_compared_by_characters() -> None:
    texts = ["我们没有时间", "我们有时间"]
    assert pairwise(texts, MbrUtility.bleu)[0, 1] == 0
    assert pairwise(texts, MbrUtility.bleu, tokenizer="char")[0, 1] > 20


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        expected_utilities(["a", "b"], utility=MbrUtility.chrf, weights=weights)


def test_a_sentence_without_candidates_is_refused() -> None:
    with pytest.raises(ValueError, match="0 candidates"):
        expected_utilities([], utility=MbrUtility.chrf)


def test_a_single_candidate_leaves_nothing_to_choose() -> None:
    with pytest.raises(ValueError, match=r"decoding\.mbr=chrf .*decoding\.beam_size=1"):
        DecodingConfig(mbr=MbrUtility.chrf, beam_size=1)
    assert DecodingConfig(**DecodingConfig(mbr=MbrUtility.bleu).plain()).mbr is MbrUtility.bleu  # type: ignore[arg-type]

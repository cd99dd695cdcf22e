"""Scores equal those of the `sacrebleu` command line."""

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nmt.evaluation import metrics
from nmt.evaluation.metrics import (
    MetricError,
    Scorer,
    check_tokenizer,
    higher_is_better,
    score,
    tokenizer_for,
)

LATIN = [
    *"abcdefgh,.?",
    "3.5",
    "don't",
    "Über",
    "größer",
    "(so)",
    "it's",
    "שלום",
    "&amp;",
    "x=1",
    "dog",
    "in",
]
ALPHABETS = {
    "13a": (LATIN, " "),
    "none": (LATIN, " "),
    "intl": (LATIN, " "),
    "zh": ([*"我们今天去北京的大学看书，他说好。", " 3.5 ", " dog "], ""),
    "char": ([*"ภาษาไทยกขคง"], ""),
    "ja-mecab": (["私は", "東京", "に", "行きます", "。", "猫が", "好き", "です", " dog "], ""),
    "ko-mecab": (["나는", "학교에", "갑니다", ".", "고양이를", "좋아해요", "dog"], " "),
}
NEEDS = {"ja-mecab": "MeCab", "ko-mecab": "mecab_ko"}


def texts(
    tokenizer: str, seed: int, references: int, sentences: int = 15
) -> tuple[list[str], list[list[str]]]:
    """Hypotheses, of which two are empty, and the references of each."""
    words, space = ALPHABETS[tokenizer]
    draw = random.Random(seed)
    lines = [draw.choices(words, k=draw.randint(1, 20)) for _ in range(sentences)]
    rows = [
        [space.join(word for word in line if draw.random() < 0.9) or words[0] for _ in range(references)]
        for line in lines
    ]
    hypotheses = [space.join(word for word in line if draw.random() < 0.85) for line in lines]
    hypotheses[3] = hypotheses[7] = ""
    hypotheses[5] += "  "
    return hypotheses, rows


CASES = [
    (tokenizer, references)
    for tokenizer in ALPHABETS
    for references in ((1, 2, 3) if tokenizer in ("13a", "zh", "ja-mecab") else (1, 2, 4))
]


def command_line(
    folder: Path, tokenizer: str, hypotheses: list[str], rows: list[list[str]], order: int
) -> Any:
    columns = list(zip(*rows, strict=True))
    for name, lines in [("hypotheses", hypotheses), *((f"r{n}", own) for n, own in enumerate(columns))]:
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    paths = [str(folder / f"r{number}") for number in range(len(columns))]
    command = [sys.executable, "-m", "sacrebleu", *paths, "-i", str(folder / "hypotheses"), "-w", "6"]
    command += ["-m", "bleu", "chrf", "ter", "-tok", tokenizer, "--chrf-word-order", str(order)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_there_are_twenty_outputs() -> None:
    assert len(CASES) >= 20


@pytest.mark.parametrize(("tokenizer", "references"), CASES)
def test_scores_and_signatures_are_those_of_the_command_line(
    tmp_path: Path, tokenizer: str, references: int
) -> None:
    if tokenizer in NEEDS:
        pytest.importorskip(NEEDS[tokenizer])
    order = 2 if references == 2 else 0
    hypotheses, rows = texts(tokenizer, seed=references, references=references)
    expected = command_line(tmp_path, tokenizer, hypotheses, rows, order)
    chosen = ["bleu", "chrf++" if order else "chrf", "ter"]
    scorer = Scorer(rows, metrics=chosen, tokenizer=tokenizer)
    found = scorer.score(scorer.statistics(hypotheses))
    assert [own.name for own in found] == ["BLEU", "chrF++" if order else "chrF", "TER"]
    for own, other in zip(found, expected, strict=True):
        assert own.value == pytest.approx(other["score"], abs=1e-6)
        assert own.signature == other["signature"]
        assert own.signature in str(own)
        assert 2 < own.value < 99


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    {
        "de": "13a",
        "zh": "zh",
        "zh-TW": "zh",
        "zho_Hans": "zh",
        "ja": "ja-mecab",
        "JA": "ja-mecab",
        "ko_KR": "ko-mecab",
        "th": "flores200",
        "": "13a",
    }.items(),
)
def test_the_language_decides_on_the_tokenizer_until_one_is_given(language: str, tokenizer: str) -> None:
    assert tokenizer_for(language) == tokenizer
    assert Scorer([["a b"]], language=language, tokenizer="none").tokenizer == "none"


def test_validation_is_cheap_and_in_the_tokenizer_of_the_language() -> None:
    found = score(["他说好。"], ["我们说好。"], language="zh")
    assert [own.name for own in found] == ["BLEU", "chrF"]
    assert "tok:zh" in found[0].signature
    assert all(own.interval is None for own in found)


def test_an_interval_holds_its_score_and_is_printed_with_it() -> None:
    hypotheses, rows = texts("13a", seed=1, references=1, sentences=60)
    scorer = Scorer(rows)
    for own in scorer.score(scorer.statistics(hypotheses), resamples=200):
        assert own.interval is not None
        assert own.interval.low < own.value < own.interval.high
        assert f"{own.value:.2f} [{own.interval.low:.2f}, {own.interval.high:.2f}] (nrefs:1|" in str(own)
        assert higher_is_better(own.name) == (own.name != "TER")


def test_a_perfect_translation_has_the_best_scores() -> None:
    _, rows = texts("13a", seed=1, references=1)
    scorer = Scorer(rows)
    values = [own.value for own in scorer.score(scorer.statistics([row[0] for row in rows]))]
    assert values == pytest.approx([100, 100, 100, 0])


@pytest.mark.parametrize(("hypotheses", "references"), [(["a"], ["a", "b"]), (["a", "b"], ["a"]), ([], [])])
def test_what_cannot_be_scored_is_refused(hypotheses: list[str], references: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(hypotheses)} translations against {len(references)}"):
        score(hypotheses, references)
    if references:
        with pytest.raises(ValueError, match=f"{len(hypotheses)} translations against {len(references)}"):
            Scorer([[text] for text in references]).statistics(hypotheses)


def test_a_tokenizer_that_cannot_be_had_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import sacrebleu.tokenizers.tokenizer_ja_mecab as japanese
    import sacrebleu.tokenizers.tokenizer_spm as flores

    def offline(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(flores, "SACREBLEU_DIR", "/nonexistent")
    monkeypatch.setattr(flores, "download_file", offline)
    with pytest.raises(MetricError, match=r"flores200 cannot be fetched .*scoring.tokenizer=13a") as caught:
        check_tokenizer("flores200")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(japanese, "MeCab", None)
    with pytest.raises(MetricError, match=r"ja-mecab is not installed: pip install 'nmt\[mecab\]'"):
        Scorer([["a"]], language="ja")


def test_the_extra_has_what_the_tokenizers_need() -> None:
    """The extra `mecab` names the packages of both tokenizers, which these tests then use."""
    for module in NEEDS.values():
        if importlib.util.find_spec(module):
            check_tokenizer(next(name for name, own in NEEDS.items() if own == module))
    assert metrics._TOKENIZERS["ja"] == "ja-mecab"

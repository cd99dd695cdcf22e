"""Scores equal those of the `sacrebleu` command line."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.evaluation.metrics import score

WORDS = [
    "the",
    "a",
    "small",
    "old",
    "dog",
    "cat",
    "house",
    "sees",
    "hears",
    "in",
    "of",
    ",",
    ".",
    "?",
    "3.5",
    "don't",
    "Über",
    "größer",
    "我们",
    "שלום",
]


def texts() -> tuple[list[str], list[str]]:
    draw = random.Random(1)
    references = [" ".join(draw.choices(WORDS, k=draw.randint(4, 20))) for _ in range(40)]
    hypotheses = [" ".join(w for w in line.split(" ") if draw.random() < 0.9) for line in references]
    hypotheses[3] = ""
    return hypotheses, references


def test_scores_and_signatures_are_those_of_the_command_line(tmp_path: Path) -> None:
    hypotheses, references = texts()
    for name, lines in (("hypotheses", hypotheses), ("references", references)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(tmp_path / "references")]
    command += ["-i", str(tmp_path / "hypotheses"), "-m", "bleu", "chrf", "-w", "6"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = json.loads(result.stdout)
    found = score(hypotheses, references)
    assert [own.name for own in found] == ["BLEU", "chrF"]
    for own, other in zip(found, expected, strict=True):
        assert own.value == pytest.approx(other["score"], abs=1e-6)
        assert own.signature == other["signature"]
        assert own.signature in str(own)
        assert 40 < own.value < 99


def test_a_perfect_translation_has_the_greatest_scores() -> None:
    _, references = texts()
    assert [own.value for own in score(references, references)] == pytest.approx([100, 100])


@pytest.mark.parametrize(("hypotheses", "references"), [(["a"], ["a", "b"]), (["a", "b"], ["a"]), ([], [])])
def test_what_cannot_be_scored_is_refused(hypotheses: list[str], references: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(hypotheses)} translations against {len(references)}"):
        score(hypotheses, references)

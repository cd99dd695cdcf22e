"""Scores of translations, by sacrebleu and always with the signature that makes them comparable."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF


@dataclass(kw_only=True, slots=True, frozen=True)
class Score:
    """A value from 0 to 100 and how it was computed (Post, 2018)."""

    name: str
    value: float
    signature: str

    def __str__(self) -> str:
        return f"{self.name} {self.value:.2f} ({self.signature})"


def score(hypotheses: Sequence[str], references: Sequence[str]) -> list[Score]:
    """Corpus BLEU and chrF with sacrebleu's default settings, as its command line computes them.

    Both sides are plain text: cased, with neither tokens nor pieces marked.

    Raises:
        ValueError: the sides differ in number, or there is nothing to score.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"cannot score {len(hypotheses)} translations against {len(references)} references")
    scores = []
    for name, metric in (("BLEU", BLEU()), ("chrF", CHRF())):
        value = metric.corpus_score(list(hypotheses), [list(references)]).score
        scores.append(Score(name=name, value=value, signature=str(metric.get_signature())))
    return scores

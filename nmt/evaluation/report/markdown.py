"""Scores as rows of a Markdown table, for the README of whoever trained the model."""

from collections.abc import Sequence

from nmt.evaluation.evaluation import EvaluatedSet, Evaluation
from nmt.evaluation.metrics import Score

_HEAD = ("test set", "system", "BLEU", "chrF", "decoding", "machine", "commit, date")


def markdown_table(names: Sequence[str], evaluations: Sequence[Evaluation], test_sets: Sequence[str]) -> str:
    """One row for each test set and system, and the signatures below, without which scores mean nothing."""
    lines = [_row(_HEAD), "|" + "---|" * len(_HEAD)]
    signatures: dict[str, None] = {}
    for test_set in test_sets:
        for name, evaluation in zip(names, evaluations, strict=True):
            own = evaluation.test_set(test_set)
            if own is None:
                continue
            signatures |= dict.fromkeys(f"{each.name} `{each.signature}`" for each in _shown(own))
            lines.append(_row(_cells(name, own, evaluation)))
    return "\n".join(
        [*lines, "", f"With 95 % bootstrap intervals, by sacrebleu: {', '.join(signatures)}.", ""]
    )


def _shown(own: EvaluatedSet) -> list[Score]:
    return [score for metric in ("BLEU", "chrF") if (score := own.score(metric))]


def _cells(name: str, own: EvaluatedSet, evaluation: Evaluation) -> list[str]:
    found = evaluation.provenance
    scores = []
    for metric in ("BLEU", "chrF"):
        score = own.score(metric)
        interval = (
            f" [{score.interval.low:.1f}, {score.interval.high:.1f}]" if score and score.interval else ""
        )
        scores.append(f"{score.value:.1f}{interval}" if score else "")
    decoding = ""
    if found.decoding:
        decoding = f"beam {found.decoding['beam_size']}, length penalty {found.decoding['length_penalty']:g}"
        decoding += f", {found.dtype}"
    machine = str(found.hardware.get("processor", "")) if found.device in ("", "cpu") else found.device
    commit = str(found.software.get("commit") or "")
    made = ", ".join(filter(None, [f"`{commit}`" if commit else "", found.date[:10]]))
    return [own.name, name, *scores, decoding, machine, made]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

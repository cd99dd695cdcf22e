"""Scores of the checkpoints of a run by step: as a table, as JSON and as a picture."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.metrics import Score
from nmt.evaluation.saved import FORMAT, summary
from nmt.evaluation.tables import origin, table


class PlotError(ValueError):
    """The library that draws is not installed."""


@dataclass(kw_only=True, slots=True)
class CheckpointCurve:
    """Evaluations of checkpoints in the order of their steps."""

    run: str
    steps: list[int] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    # Wall-clock time of all, loading and scoring included.
    seconds: float = 0.0

    def add(self, step: int, evaluation: Evaluation) -> None:
        """Add the checkpoint after that step."""
        self.steps.append(step)
        self.evaluations.append(evaluation)

    @property
    def decoding_seconds(self) -> float:
        """The part of the time that went into translating."""
        return sum(own.seconds or 0.0 for each in self.evaluations for own in each.test_sets)

    def series(self) -> dict[tuple[str, str], list[Score]]:
        """The scores by step of each test set and metric."""
        found: dict[tuple[str, str], list[Score]] = {}
        for evaluation in self.evaluations:
            for own in evaluation.test_sets:
                for score in own.scores:
                    found.setdefault((own.name, score.name), []).append(score)
        return found

    def rows(self) -> list[str]:
        """One line per step, the score and its interval of each test set and metric."""
        series = self.series()
        head = ["step", *(f"{name} {metric}" for name, metric in series)]
        rows = [head]
        for place, step in enumerate(self.steps):
            rows.append(
                [f"{step:,}", *(f"{own[place].value:.2f} {own[place].interval}" for own in series.values())]
            )
        return table(rows, ">" * len(head))

    def table(self) -> str:
        """The rows, the best of each column, the signatures and where the scores come from."""
        best = []
        for (name, metric), scores in self.series().items():
            values = [score.value for score in scores]
            place = values.index(min(values) if metric == "TER" else max(values))
            best.append(
                f"best {name} {metric} {values[place]:.2f} at step {self.steps[place]:,}"
                f" ({scores[0].signature})"
            )
        share = self.seconds / max(self.decoding_seconds, 1e-9)
        return "\n".join(
            [
                *self.rows(),
                *best,
                origin(self.evaluations[-1]),
                f"{len(self.steps)} checkpoints in {self.seconds:.1f} s, {share:.2f} times pure decoding",
            ]
        )

    def as_json(self) -> dict[str, Any]:
        """All evaluations by step, without their sentences."""
        checkpoints = [
            {"step": step, **summary(evaluation)}
            for step, evaluation in zip(self.steps, self.evaluations, strict=True)
        ]
        return {
            "format": FORMAT,
            "run": self.run,
            "seconds": self.seconds,
            "decoding_seconds": self.decoding_seconds,
            "checkpoints": checkpoints,
        }


def plot(curve: CheckpointCurve, path: Path) -> None:
    """Draw BLEU by step with its intervals, one line per test set; any other metric when there is no BLEU.

    Raises:
        PlotError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise PlotError("drawing needs matplotlib: pip install 'nmt[plots]'") from error
    series = curve.series()
    metrics = [metric for _, metric in series]
    chosen = "BLEU" if "BLEU" in metrics else metrics[0]
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    signature = ""
    for (name, metric), scores in series.items():
        if metric != chosen:
            continue
        signature = scores[0].signature
        axes.plot(curve.steps, [score.value for score in scores], marker="o", markersize=3.5, label=name)
        low = [score.interval.low if score.interval else score.value for score in scores]
        high = [score.interval.high if score.interval else score.value for score in scores]
        axes.fill_between(curve.steps, low, high, alpha=0.15, linewidth=0)
    axes.set_xlabel("step")
    axes.set_ylabel(f"{chosen} with 95 % bootstrap interval")
    axes.set_title(f"{curve.run}\n{signature}", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        figure.savefig(partial, dpi=150)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

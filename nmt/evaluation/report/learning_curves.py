"""Learning curves of a run, from the files that it leaves: metrics.jsonl and evaluation-checkpoints.json."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Points of a curve; a run of days has more, which nobody could tell apart.
_MOST_POINTS = 400
SCALARS = ("train/loss", "validation/loss", "validation/bleu", "validation/chrf", "train/learning_rate")


@dataclass(slots=True)
class Curve:
    """Values by step, with their intervals where there are any."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Add the value at a step."""
        self.steps.append(step)
        self.values.append(value)

    def thinned(self, most: int = _MOST_POINTS) -> "Curve":
        """At most so many points, evenly drawn, with the last one."""
        count = len(self.steps)
        if count <= most:
            return self
        kept = [round(place * (count - 1) / (most - 1)) for place in range(most)]
        return Curve([self.steps[each] for each in kept], [self.values[each] for each in kept])


def read_curves(run: Path) -> dict[str, Curve]:
    """The curves of SCALARS that a run has; a torn or damaged line costs its values only."""
    curves: dict[str, Curve] = {}
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return curves
    for line in lines:
        try:
            entry = json.loads(line)
            step = int(entry["step"])
            found = {name: float(entry[name]) for name in SCALARS if name in entry}
        except (ValueError, KeyError, TypeError):
            continue
        for name, value in found.items():
            curves.setdefault(name, Curve()).add(step, value)
    return {name: curve.thinned() for name, curve in curves.items()}


def read_checkpoint_scores(run: Path, metric: str = "BLEU") -> dict[str, Curve]:
    """A metric of each test set by step, where `nmt evaluate checkpoints=all` has left it."""
    curves: dict[str, Curve] = {}
    try:
        content = json.loads((run / "evaluation-checkpoints.json").read_text(encoding="utf-8"))
        for checkpoint in content["checkpoints"]:
            for own in checkpoint["test_sets"]:
                for score in own["scores"]:
                    if score["name"] == metric:
                        _add(curves.setdefault(str(own["name"]), Curve()), int(checkpoint["step"]), score)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return curves


def _add(curve: Curve, step: int, score: dict[str, Any]) -> None:
    value = float(score["value"])
    interval = score["interval"] or {"low": value, "high": value}
    curve.add(step, value)
    curve.low.append(float(interval["low"]))
    curve.high.append(float(interval["high"]))

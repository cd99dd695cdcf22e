"""Curves are those of the run's files, whatever state these are in."""

import json
from pathlib import Path

from nmt.evaluation.report.learning_curves import Curve, read_checkpoint_scores, read_curves


def test_scalars_are_read_by_step_and_damaged_lines_left_out(tmp_path: Path) -> None:
    lines = [
        {"step": 10, "train/loss": 3.5, "train/learning_rate": 0.1, "speed/padding_share": 0.1},
        {"step": 10, "validation/loss": 3.0, "validation/bleu": 12.5},
        {"step": 20, "train/loss": 2.5, "validation/bleu": "high"},
        {"train/loss": 9.0},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '[]\n{"step": 30, "train/lo'
    (tmp_path / "metrics.jsonl").write_bytes(text.encode() + b"\xff")
    curves = read_curves(tmp_path)
    assert curves["train/loss"].steps == [10]
    assert curves["validation/bleu"].values == [12.5]
    assert "speed/padding_share" not in curves
    assert read_curves(tmp_path / "nowhere") == {}


def test_long_curves_keep_their_ends() -> None:
    curve = Curve(list(range(1, 5001)), [float(step) for step in range(1, 5001)]).thinned(100)
    assert (len(curve.steps), curve.steps[0], curve.steps[-1]) == (100, 1, 5000)
    assert curve.values == [float(step) for step in curve.steps]
    gaps = {after - before for before, after in zip(curve.steps, curve.steps[1:], strict=False)}
    assert max(gaps) - min(gaps) <= 1


def test_scores_of_checkpoints_come_with_their_intervals(tmp_path: Path) -> None:
    def score(name: str, value: float) -> dict[str, object]:
        return {"name": name, "value": value, "interval": {"low": value - 1, "high": value + 1}}

    checkpoints = [
        {"step": step, "test_sets": [{"name": "news", "scores": [score("BLEU", step), score("chrF", 0)]}]}
        for step in (10, 20)
    ]
    (tmp_path / "evaluation-checkpoints.json").write_text(json.dumps({"checkpoints": checkpoints}))
    curve = read_checkpoint_scores(tmp_path)["news"]
    assert (curve.steps, curve.values, curve.low, curve.high) == ([10, 20], [10, 20], [9, 19], [11, 21])
    (tmp_path / "evaluation-checkpoints.json").write_text("[]")
    assert read_checkpoint_scores(tmp_path) == {}

"""COMET with a stand-in for its library, which needs gigabytes of weights."""

import sys
import types

import pytest

from nmt.data.test_sets import TestSet
from nmt.evaluation.config import ScoringConfig
from nmt.evaluation.evaluation import Decoded, Scoring
from nmt.evaluation.metrics import MetricError

SET = TestSet(name="t", sources=["a", "b"], references=[["x", "y"], ["z", "z"]], origin=[])


class Model:
    def predict(self, rows: list[dict[str, str]], **_: object) -> dict[str, list[float]]:
        return {"scores": [0.9 if row["mt"] == row["ref"] else 0.5 for row in rows]}


def library(**functions: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(download_model=lambda name: name, **functions)


def test_scores_are_means_over_references_and_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comet", library(load_from_checkpoint=lambda path: Model()))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.2")
    scoring = Scoring.of([SET], ScoringConfig(comet="Unbabel/wmt22-comet-da"), language="de")
    found = scoring.score(SET, [Decoded(text="x"), Decoded(text="z")], None)
    score = found.score("COMET")
    assert score is not None
    assert score.value == pytest.approx((70 + 90) / 2)
    assert score.signature == "nrefs:2|model:Unbabel/wmt22-comet-da|version:2.2"
    assert score.interval is not None
    assert (score.interval.low, score.interval.high) == pytest.approx((70, 90))
    assert [each.statistics["COMET"] for each in found.sentences] == [
        pytest.approx([70, 1]),
        pytest.approx([90, 1]),
    ]


def test_what_cannot_be_had_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comet", None)
    with pytest.raises(MetricError, match=r"scoring.comet=x needs .* pip install 'nmt\[comet\]'"):
        Scoring.of([SET], ScoringConfig(comet="x"), language="de")

    def fail(path: str) -> None:
        raise KeyError("Model 'x' not supported\nby COMET.")

    monkeypatch.setitem(sys.modules, "comet", library(load_from_checkpoint=fail))
    with pytest.raises(MetricError, match=r"its weights cannot be had .*not supported") as caught:
        Scoring.of([SET], ScoringConfig(comet="x"), language="de")
    assert "\n" not in str(caught.value)

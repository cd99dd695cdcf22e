"""Rows for a README: valid Markdown, no score without its signature."""

from collections.abc import Callable

from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.report.markdown import markdown_table

DECODING = {"beam_size": 5, "length_penalty": 0.6}


def test_a_row_for_each_system_with_signatures_below(make_evaluation: Callable[..., Evaluation]) -> None:
    systems = [make_evaluation(0.1, decoding=DECODING, software={"commit": "abc"}), make_evaluation(0.3)]
    text = markdown_table(["runs/a|b", "c"], systems, ["news"])
    head, rule, first, second, empty, signatures = text.splitlines()
    # A bar in a name is none of the table's.
    columns = head.count("|")
    assert {rule.count("|"), first.replace("\\|", "").count("|"), second.count("|")} == {columns}
    assert "runs/a\\|b" in first
    assert "beam 5, length penalty 0.6" in first
    assert "`abc`" in first
    assert empty == ""
    for system, row in zip(systems, (first, second), strict=True):
        for name in ("BLEU", "chrF"):
            score = system.test_sets[0].score(name)
            assert score
            assert score.interval
            assert f"| {score.value:.1f} [{score.interval.low:.1f}, {score.interval.high:.1f}] |" in row
            assert f"{name} `{score.signature}`" in signatures

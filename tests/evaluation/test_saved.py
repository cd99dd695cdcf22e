"""What is written is what is read, or it is said what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nmt.evaluation import saved
from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.saved import SavedEvaluationError, sentences_path

MakeEvaluation = Callable[..., Evaluation]


@pytest.fixture
def path(tmp_path: Path, make_evaluation: MakeEvaluation) -> Path:
    path = tmp_path / "evaluation.json"
    saved.write(make_evaluation(0.2, card={"seed": 3}), path)
    return path


def test_an_evaluation_is_read_as_it_was_written(path: Path, make_evaluation: MakeEvaluation) -> None:
    found, expected = saved.read(path), make_evaluation(0.2, card={"seed": 3})
    expected.provenance.date = found.provenance.date
    assert found == expected
    assert found.provenance.seed == 3
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "evaluation.json",
        "evaluation.sentences.jsonl",
    ]


def test_texts_of_any_kind_survive(path: Path) -> None:
    evaluation = saved.read(path)
    sentence = evaluation.test_sets[0].sentences[0]
    sentence.hypothesis, sentence.log_probability, sentence.pieces = 'a\u2028b \x85 "<b>" 𝄞', -1.5, 3
    saved.write(evaluation, path)
    assert saved.read(path) == evaluation


def test_scores_can_be_computed_again_from_the_sentences(path: Path) -> None:
    from nmt.evaluation.metrics import scores_of

    own = saved.read(path).test_sets[0]
    again = scores_of(own.statistics(), {each.name: each.signature for each in own.scores}, resamples=200)
    assert again == own.scores


def test_no_number_stands_without_signature_and_provenance(path: Path) -> None:
    content = json.loads(path.read_text())
    assert content["format"] == 1
    for score in content["test_sets"][0]["scores"]:
        assert "version:" in score["signature"]
        assert score["interval"]["low"] <= score["value"] <= score["interval"]["high"]
    known = content["provenance"]
    assert {
        "files",
        "decoding",
        "software",
        "hardware",
        "date",
        "resamples",
        "resampling_seed",
    } <= known.keys()
    assert known["hardware"]["processors"] >= 1


@pytest.mark.parametrize("kind", ["line lost", "text changed", "gone", "format", "no json", "field", "other"])
def test_files_that_do_not_belong_together_are_refused(
    path: Path, kind: str, make_evaluation: MakeEvaluation
) -> None:
    sentences = sentences_path(path)
    if kind == "line lost":
        sentences.write_text("".join(sentences.read_text().splitlines(keepends=True)[:-1]))
    elif kind == "text changed":
        sentences.write_text(sentences.read_text().replace("dog", "dig", 1))
    elif kind == "gone":
        sentences.unlink()
    elif kind == "format":
        path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    elif kind == "no json":
        path.write_text("{")
    elif kind == "field":
        path.write_text(path.read_text().replace('"provenance"', '"other"'))
    else:
        # A second evaluation was killed between its two files.
        saved.write(make_evaluation(0.5), path.with_name("second.json"))
        sentences_path(path.with_name("second.json")).replace(sentences)
    with pytest.raises(SavedEvaluationError, match=r"evaluat") as caught:
        saved.read(path)
    assert "\n" not in str(caught.value)
    assert str(path.parent) in str(caught.value)


def test_a_file_that_cannot_be_written_leaves_the_old_one(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError):
        saved.write_json(path, {"a": object()})
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*"))

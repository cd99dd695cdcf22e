"""Training data is found as files or as prepared data, and both give the same words."""

import random
from pathlib import Path

import pytest

from nmt.cli.training_words import TrainingWordsError, training_words
from nmt.data.config import CorpusConfig, DataConfig, TokenizerConfig
from nmt.data.preparation import prepare
from nmt.evaluation.evaluation import Provenance

# More words than there are pieces, so that sentences cut in the wrong place are words cut in two.
DRAW = random.Random(1)
WORDS = ["".join(DRAW.choices("abcdefghijklmn", k=DRAW.randint(3, 9))) for _ in range(400)]
SOURCES = [f"The Dog {' '.join(DRAW.choices(WORDS, k=DRAW.randint(2, 9)))}" for _ in range(60)]
TARGETS = [f"Der Hund {' '.join(DRAW.choices(WORDS, k=DRAW.randint(2, 9)))}" for _ in range(60)]


@pytest.fixture
def provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Provenance:
    monkeypatch.chdir(tmp_path)
    Path("train.en").write_text("\n".join(SOURCES) + "\n")
    Path("train.de").write_text("\n".join(TARGETS) + "\n")
    corpus = CorpusConfig(source="train.en", target="train.de")
    data = DataConfig(train=corpus, valid=corpus, workers=1, prepared_folder="prepared")
    data.cleaning.remove_duplicates = False
    prepared = prepare(data, TokenizerConfig(vocabulary_size=330), summarize=False)
    settings = {
        "data.train.source": "train.en",
        "data.train.target": "train.de",
        "data.prepared_folder": "prepared",
    }
    return Provenance(system="x", files={}, training=settings, card={"data": prepared.fingerprint})


def test_files_and_prepared_data_have_the_same_words(provenance: Provenance) -> None:
    found = training_words(provenance)
    assert (found.pairs, found.origin) == (60, "train.en, train.de")
    assert (found.source["the"], found.source["Hund"], found.target["Hund"]) == (60, 0, 60)
    assert found.source.counts.total() == sum(len(line.split()) for line in SOURCES)
    Path("train.en").unlink()
    again = training_words(provenance)
    assert again.origin.startswith("prepared/")
    assert (again.pairs, again.source, again.target) == (found.pairs, found.source, found.target)


def test_it_is_said_what_is_missing(provenance: Provenance) -> None:
    Path("train.de").unlink()
    provenance.card = {}
    with pytest.raises(TrainingWordsError, match=r"neither train\.de nor the prepared data is there"):
        training_words(provenance)
    provenance.training = {}
    with pytest.raises(TrainingWordsError, match="settings of its training are not known"):
        training_words(provenance)


def test_damaged_files_are_no_training_data(provenance: Provenance) -> None:
    Path("train.de").write_bytes(b"\xff\n" * 60)
    with pytest.raises(TrainingWordsError, match=r"train\.de, line 1"):
        training_words(provenance)

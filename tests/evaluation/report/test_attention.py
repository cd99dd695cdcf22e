"""Compact maps hold the weights of the maps that they are made of."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt import bundle
from nmt.evaluation.attention_maps import PairAttention
from nmt.evaluation.config import AttentionMapConfig
from nmt.evaluation.report.attention import LONGEST, CompactMap, chosen_places, fits


def test_weights_survive_but_for_a_rounding(model_folder: Path) -> None:
    loaded = bundle.load(model_folder / "run", device=torch.device("cpu"))
    pair = PairAttention.of(loaded.model, loaded.tokenizer, "the small dog sees", "Über größer the cat .")
    found = CompactMap.of(pair)
    expected = pair.maps(AttentionMapConfig(layer="1", head="mean"))[0][0]
    assert (found.rows, found.columns, found.layers) == (expected.rows, expected.columns, 1)
    levels = np.frombuffer(base64.b64decode(found.weights), dtype=np.uint8)
    weights_LRC = levels.reshape(1, len(found.rows), len(found.columns)) / 255
    assert np.abs(weights_LRC[0] - expected.weights_RC).max() <= 0.5 / 255 + 1e-6
    assert weights_LRC.sum(-1) == pytest.approx(1, abs=0.05)


def test_maps_are_of_the_worst_and_of_the_first_listed() -> None:
    order = [7, 3, 9, 1, 0, 2, 4, 5, 6, 8]
    assert chosen_places(order, range(10), 4) == [0, 1, 3, 7]
    # Sentences that are not listed get none, and none is chosen twice.
    assert chosen_places(order, [1, 2, 3], 4) == [1, 2, 3]
    assert chosen_places(order, range(10), 0) == []


def test_blank_and_endless_sentences_have_no_map() -> None:
    assert fits("a b", "c")
    assert not fits("", "c")
    assert not fits("a", " ")
    assert not fits("a " * (LONGEST + 1), "c")

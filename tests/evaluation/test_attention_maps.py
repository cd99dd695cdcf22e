"""Maps say what the weights say: between pieces, between words, by layer and head, however drawn."""

import io
import itertools
import re
import sys
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from nmt.data.config import Normalization, TokenizerConfig
from nmt.data.tokenizer import BEGIN_ID, Tokenizer
from nmt.evaluation.attention_labels import clip, printable, width
from nmt.evaluation.attention_maps import AttentionMap, AttentionMapError, Axis, PairAttention
from nmt.evaluation.attention_pictures import PictureError, write_picture
from nmt.evaluation.attention_pixels import draw_pixels
from nmt.evaluation.attention_text import terminal_map, terminal_width
from nmt.evaluation.config import AttentionKind, AttentionMapConfig, Theme, Units
from nmt.model.attention_weights import attention_weights
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer

SOURCE, TARGET = "The small dog sees  the house.", "Der kleine Hund sieht das Haus."
# What fonts, terminals and mark-up may stumble over.
STRANGE = "中文字 العربية שלום हिन्दी 🙂 <b>&amp; $x_1^2$ \\alpha % {a} \x1b[31m \u202e‮ ¨ a\u0301"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    config = TokenizerConfig(vocabulary_size=330, normalization=Normalization.identity)
    return Tokenizer.train([(SOURCE, TARGET)] * 20, config)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    torch.manual_seed(1)
    config = TransformerConfig(encoder_layers=2, decoder_layers=3, width=32, heads=4, feed_forward_width=48)
    size = tokenizer.target_vocabulary_size
    model = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size)
    for parameter in model.parameters():
        parameter.data.mul_(2)
    return model


@pytest.fixture(scope="module")
def attention(model: Transformer, tokenizer: Tokenizer) -> PairAttention:
    return PairAttention.of(model, tokenizer, SOURCE, TARGET)


def one(pair: PairAttention, /, **settings: object) -> AttentionMap:
    ((found,),) = pair.maps(AttentionMapConfig(**settings))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("kind", list(AttentionKind))
@pytest.mark.parametrize("units", list(Units))
def test_rows_sum_to_one(attention: PairAttention, kind: AttentionKind, units: Units) -> None:
    for layer, head in (("mean", "mean"), ("2", "3"), ("all", "all")):
        config = AttentionMapConfig(attention=kind, units=units, layer=layer, head=head)
        for found in itertools.chain(*attention.maps(config)):
            assert found.weights_RC.shape == found.allowed_RC.shape == (len(found.rows), len(found.columns))
            np.testing.assert_allclose(found.weights_RC.sum(axis=1), 1, rtol=1e-5)
            assert (found.weights_RC[~found.allowed_RC] == 0).all()


def test_words_are_sums_over_columns_and_means_over_rows(
    attention: PairAttention, model: Transformer, tokenizer: Tokenizer
) -> None:
    found = one(attention, layer="2", head="3")
    assert found.rows == [*TARGET.split(), "</s>"]
    assert found.columns == [*SOURCE.split(), "</s>"]
    source, target = tokenizer.encode_source([SOURCE]), tokenizer.encode_target([TARGET])
    (weights,) = attention_weights(model, source, target, begin_id=BEGIN_ID)
    weights_TS = weights.cross_LHTS[1, 2]
    rows = [*tokenizer.words_target(TARGET), 6]
    columns = [*tokenizer.words_source(SOURCE), 6]
    for word, row in enumerate(found.weights_RC):
        for other, weight in enumerate(row):
            t = [place for place, own in enumerate(rows) if own == word]
            s = [place for place, own in enumerate(columns) if own == other]
            assert weight == pytest.approx(float(weights_TS[t][:, s].sum()) / len(t), rel=1e-5)
    assert len(rows) > len(found.rows)


def test_layers_and_heads_average_to_the_mean(attention: PairAttention) -> None:
    for kind, layers in ((AttentionKind.cross, 3), (AttentionKind.encoder, 2)):
        grid = attention.maps(AttentionMapConfig(attention=kind, layer="all", head="all"))
        assert [len(row) for row in grid] == [4] * layers
        mean = np.mean([each.weights_RC for row in grid for each in row], axis=0)
        np.testing.assert_allclose(one(attention, attention=kind).weights_RC, mean, rtol=1e-4, atol=1e-7)
        by_head = attention.maps(AttentionMapConfig(attention=kind, layer="2", head="all"))
        np.testing.assert_array_equal(by_head[0][3].weights_RC, grid[1][3].weights_RC)
    assert grid[1][3].title == "layer 2, head 4"
    with pytest.raises(AttentionMapError, match="layer=4: there are 3; allowed: 1 to 3, mean, all"):
        one(attention, layer="4")


def test_the_decoder_sees_what_it_has_read(attention: PairAttention) -> None:
    pieces = one(attention, attention=AttentionKind.decoder, units=Units.pieces)
    assert pieces.rows == pieces.columns
    assert pieces.rows[0] == "<s>"
    assert (pieces.allowed_RC == np.tril(np.ones_like(pieces.allowed_RC))).all()
    words = one(attention, attention=AttentionKind.decoder)
    assert words.rows == ["<s>", *TARGET.split()]
    assert (words.allowed_RC == np.tril(np.ones_like(words.allowed_RC))).all()
    for kind in (AttentionKind.cross, AttentionKind.encoder):
        assert one(attention, attention=kind).allowed_RC.all()


def test_a_dropped_word_has_no_place_on_the_axis() -> None:
    axis = Axis.of(["▁a", "b", "▁c"], [0, 0, 2], "ab \x01 c", begin=True, end=True)
    assert axis.names == ["<s>", "ab", "c", "</s>"]
    assert axis.words == [0, 1, 1, 2, 3]
    assert axis.groups(Units.words).sum(axis=0).tolist() == [1, 2, 1, 1]


def test_labels_are_harmless() -> None:
    assert printable("a\x1b[31mb\u202ec\nd\te\u200d") == "a�[31mbc�d�e"
    assert printable("中 🙂 é ا") == "中 🙂 é ا"


@pytest.fixture(scope="module")
def strange(model: Transformer, tokenizer: Tokenizer) -> PairAttention:
    return PairAttention.of(model, tokenizer, STRANGE, f"{STRANGE} {'x' * 200}")


@pytest.mark.parametrize("units", list(Units))
def test_any_text_in_the_terminal(strange: PairAttention, units: Units) -> None:
    shown = one(strange, units=units)
    for colour in (False, True):
        lines = terminal_map(shown, colour=colour).splitlines()
        assert not [char for char in "".join(lines) if not char.isprintable() and char != "\x1b"]
        plain = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(lines))
        assert "\x1b" not in plain
        assert all(width(line) <= terminal_width(shown) for line in plain.splitlines() if "%" not in line)


def test_terminal_shows_shades_and_the_mask() -> None:
    weights = np.array([[1.0, 0.0], [0.5, 0.5]], dtype=np.float32)
    shown = AttentionMap("", ["<s>", "a"], ["<s>", "日"], weights, np.array([[True, False], [True, True]]))
    assert terminal_map(shown, colour=False).splitlines() == [
        "    <",
        "    s",
        "    > 日",
        "<s> ██╱╱",
        "  a ▒▒▒▒",
        "    0 %  ░░▒▒▓▓██100 %",
        "    ╱╱ masked: positions still to come",
    ]
    coloured = terminal_map(shown, colour=True)
    assert coloured.count("╱╱") == 2
    assert coloured.count("\x1b[48;5;18m") == 2


def picture(grid: list[list[AttentionMap]], kind: str, theme: Theme = Theme.light) -> bytes:
    pytest.importorskip("matplotlib")
    file = io.BytesIO()
    write_picture(file, grid, title="title $x$ <&>", theme=theme, kind=kind)
    return file.getvalue()


@pytest.mark.parametrize("theme", list(Theme))
def test_png(attention: PairAttention, theme: Theme) -> None:
    grid = attention.maps(AttentionMapConfig(attention=AttentionKind.decoder))
    image = Image.open(io.BytesIO(picture(grid, "png", theme))).convert("L")
    assert min(image.size) > 300
    corner = image.getpixel((2, 2))
    assert isinstance(corner, int)
    assert (corner > 200) == (theme is Theme.light)
    # There is something to see.
    low, high = image.getextrema()
    assert high - low > 150  # type: ignore[operator]


@pytest.mark.parametrize("units", list(Units))
def test_svg_holds_any_text_as_text_and_is_reproducible(strange: PairAttention, units: Units) -> None:
    grid = strange.maps(AttentionMapConfig(units=units, layer="1", head="1"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = picture(grid, "svg")
    assert svg == picture(grid, "svg")
    texts = {"".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter()}
    assert {clip(name, 24) for name in grid[0][0].rows} <= texts
    assert "title $x$ <&>" in texts
    assert b"<script" not in svg


def test_all_layers_and_heads_in_one_picture(attention: PairAttention) -> None:
    grid = attention.maps(AttentionMapConfig(attention=AttentionKind.decoder, layer="all", head="all"))
    svg = picture(grid, "svg").decode()
    assert svg.count("layer 1, head") == 4
    assert all(f"layer {layer}, head {head}" in svg for layer in (1, 2, 3) for head in (1, 2, 3, 4))


def test_the_mask_is_hatched(attention: PairAttention) -> None:
    count = {
        kind: picture(attention.maps(AttentionMapConfig(attention=kind)), "svg").count(b"<pattern ")
        for kind in AttentionKind
    }
    assert count[AttentionKind.decoder] > 0
    assert count[AttentionKind.cross] == count[AttentionKind.encoder] == 0


def test_without_matplotlib_there_is_one_line(
    attention: PairAttention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PictureError, match=re.escape("pip install 'nmt[plots]'")):
        write_picture(io.BytesIO(), [[one(attention)]], title="", theme=Theme.light, kind="png")


def test_pixels_need_no_matplotlib_and_are_darker_where_the_weight_is(
    attention: PairAttention, strange: PairAttention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shown = one(attention)
    pixels = draw_pixels(shown)
    assert (pixels.dtype, pixels.shape[2]) == (np.uint8, 3)
    rows, columns = shown.weights_RC.shape
    # The middle of each cell, counted from the lower right corner.
    cells = pixels[:-5, :-5][::-1, ::-1][13::26, 13::26][:rows, :columns][::-1, ::-1].sum(axis=2)
    order = np.argsort(shown.weights_RC.ravel())
    assert (np.diff(cells.ravel()[order].astype(int)) <= 0).all()
    assert cells.min() < 200 < cells.max()
    assert draw_pixels(one(strange)).shape[0] > 100

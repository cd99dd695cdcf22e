"""An attention map as plain pixels, drawn by pillow: small, quick, and without matplotlib.

TensorBoard itself needs pillow for its images.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nmt.evaluation.attention_maps import AttentionMap

_CELL, _GAP, _FONT_SIZE = 26, 5, 14
# Shades from nothing to the greatest weight, and what is written with.
_NOTHING, _GREATEST, _INK = np.array([246, 248, 250]), np.array([8, 48, 107]), (31, 35, 40)
# Fonts with more scripts than pillow's own; the first that the system has.
_FONTS = "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc", "DejaVuSans.ttf"

Pixels = NDArray[np.uint8]


def draw_pixels(shown: AttentionMap) -> Pixels:
    """The map with its labels, [height, width, 3]."""
    font = _font()
    row_labels = [_write(name, font) for name in shown.rows]
    column_labels = [_write(name, font).rotate(90, expand=True) for name in shown.columns]
    left = max(label.width for label in row_labels) + 2 * _GAP
    top = max(label.height for label in column_labels) + 2 * _GAP
    shares = shown.weights_RC / max(float(shown.weights_RC.max()), 1e-9)
    # The eye tells light shades apart more easily than dark ones.
    shades = _NOTHING + (_GREATEST - _NOTHING) * shares[..., None] ** 0.7
    cells = shades.astype(np.uint8).repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    cells[::_CELL] = cells[:, ::_CELL] = 255
    picture = Image.new("RGB", (left + cells.shape[1] + _GAP, top + cells.shape[0] + _GAP), "white")
    picture.paste(Image.fromarray(cells), (left, top))
    for number, label in enumerate(row_labels):
        picture.paste(label, (left - _GAP - label.width, top + number * _CELL + (_CELL - label.height) // 2))
    for number, label in enumerate(column_labels):
        picture.paste(label, (left + number * _CELL + (_CELL - label.width) // 2, top - _GAP - label.height))
    return np.asarray(picture)


def _write(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    width = max(1, round(font.getlength(text)))
    label = Image.new("RGB", (width, _CELL - 4), "white")
    ImageDraw.Draw(label).text((0, (_CELL - 4) // 2), text, fill=_INK, font=font, anchor="lm")
    return label


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, _FONT_SIZE)
        except OSError:
            continue
    return ImageFont.load_default(_FONT_SIZE)

"""`nmt attend`: what a model attends to in a sentence pair, as a picture or in the terminal."""

import io
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from nmt import bundle
from nmt.cli.schemas import AttendConfig
from nmt.config import ConfigError
from nmt.data.processors import available_cores
from nmt.decoding.output import check_output, open_output
from nmt.decoding.translator import Translator
from nmt.evaluation.attention_maps import AttentionMap, PairAttention
from nmt.evaluation.attention_pictures import require_matplotlib, write_picture
from nmt.evaluation.attention_text import terminal_map, terminal_width
from nmt.evaluation.config import AttentionKind
from nmt.model.device import choose_device

TITLES = {
    AttentionKind.cross: "cross-attention",
    AttentionKind.encoder: "self-attention of the encoder",
    AttentionKind.decoder: "self-attention of the decoder",
}


def run(config: AttendConfig) -> None:
    """Draw the attention that `config` asks for."""
    if not config.source.strip():
        raise ConfigError("source is blank: give a sentence, source='...'")
    if config.output is not None:
        check_output(Path(config.output))
        require_matplotlib()
    torch.set_num_threads(config.threads or available_cores())
    device = choose_device(config.device)
    loaded = bundle.load(config.model, device=device)
    target = config.target
    if target is None:
        language = loaded.settings.source_language
        translator = Translator.of(loaded.model, loaded.tokenizer, config.decoding, source_language=language)
        (target,) = translator.translate([config.source])
        print(target)
    attention = PairAttention.of(loaded.model, loaded.tokenizer, config.source, target)
    grid = attention.maps(config)
    title = TITLES[config.attention]
    if config.output is None:
        print(f"{title}\n{in_terminal(grid)}")
        return
    picture = io.BytesIO()
    kind = Path(config.output).suffix[1:].lower()
    write_picture(picture, grid, title=title, theme=config.theme, kind=kind)
    with open_output(Path(config.output)) as output:
        output.write(picture.getvalue(), lines=0)
        output.finish()
    print(f"written to {config.output}", file=sys.stderr)


def in_terminal(grid: Sequence[Sequence[AttentionMap]]) -> str:
    """The maps one below the other; in colour where somebody looks at them (https://no-color.org)."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    text = "\n\n".join(f"{each.title}\n{terminal_map(each, colour=colour)}" for row in grid for each in row)
    wanted = max(terminal_width(each) for row in grid for each in row)
    if sys.stdout.isatty() and wanted > shutil.get_terminal_size().columns:
        text += (
            f"\nThis map takes {wanted} columns, more than the terminal has; output=FILE.png draws a picture"
        )
    return text

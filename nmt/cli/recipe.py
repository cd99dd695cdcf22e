"""How windows of texts are translated: by this process itself, or told to others."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nmt.decoding.glossary import Glossary
from nmt.decoding.progress import Counter
from nmt.decoding.translation import Translation
from nmt.decoding.translator import Translator
from nmt.decoding.windows import Window
from nmt.model.device import choose_device
from nmt.training.memory import release

# Batches of all lengths leave the memory in pieces that later ones could not use; giving them back takes a
# tenth of a second.
_LINES_PER_RELEASE = 2048

Translated = tuple[Window, list[Translation]]
TranslateWindow = Callable[[Window, Counter], list[Translation]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """All that a process needs to know to translate windows."""

    # Several are an ensemble.
    models: Sequence[str]
    device: str
    # CPU threads of each process.
    threads: int
    # Settings of decoding by name.
    decoding: Mapping[str, Any]
    n_best: int = 1
    alignment: bool = False
    glossary: Glossary | None = None

    def load(self, place: int = 0) -> TranslateWindow:
        """Load the model, on the GPU whose turn it is for the worker of this number, from 0."""
        device = choose_device(self.device)
        if device.type == "cuda":
            torch.cuda.set_device(place % torch.cuda.device_count())
        translator = Translator(self.models, device=device.type, threads=self.threads, **self.decoding)
        lines_since = 0

        def translate(window: Window, counter: Counter) -> list[Translation]:
            # The end of a text.
            if not window.lines:
                return []
            found = translator.translate_window(
                window,
                n_best=self.n_best,
                glossary=self.glossary,
                alignment=self.alignment,
                counter=counter,
            )
            nonlocal lines_since
            lines_since += len(window.lines)
            if lines_since >= _LINES_PER_RELEASE:
                release(translator.device)
                lines_since = 0
            return found

        return translate


class ThisProcess:
    """Translates in this process, each window before the next is read; a context manager, as `Workers` is."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __enter__(self) -> "ThisProcess":
        self._translate = self._recipe.load()
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    def translate(self, windows: Iterable[Window], counter: Counter) -> Iterator[Translated]:
        """The translations of each window, in order."""
        for window in windows:
            yield window, self._translate(window, counter)

"""Train neural machine translation models from scratch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmt.decoding.translation import Candidate, Translation
    from nmt.decoding.translator import Translator

__version__ = "0.1.0"
__all__ = ["Candidate", "Translation", "Translator"]

# Where each name is; importing them takes seconds, and whoever wants the version does not need them.
_HOMES = {
    "Candidate": "nmt.decoding.translation",
    "Translation": "nmt.decoding.translation",
    "Translator": "nmt.decoding.translator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)

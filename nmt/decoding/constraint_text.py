"""Prefixes and terms as texts -> as the pieces that the search asks for."""

from collections.abc import Sequence

from nmt.data.tokenizer import UNKNOWN_ID, Tokenizer
from nmt.decoding.constraints.spelling import is_word_character
from nmt.decoding.guidance import ConstraintError


def prefix_pieces(tokenizer: Tokenizer, text: str) -> list[int]:
    """The pieces of a text with which a translation is to begin; it may end inside a word.

    Raises:
        ConstraintError: the vocabulary lacks one of its characters.
    """
    return _pieces(tokenizer, "prefix", text)


def term_pieces(tokenizer: Tokenizer, terms: Sequence[str]) -> list[list[int]]:
    """The pieces of each text that a translation is to have, as words of their own.

    Raises:
        ConstraintError: a term is blank, or the vocabulary lacks one of its characters.
    """
    return [_term(tokenizer, term) for term in terms]


def _term(tokenizer: Tokenizer, text: str) -> list[int]:
    pieces = _pieces(tokenizer, "term", text.strip())
    if not pieces:
        raise ConstraintError(f"term {text!r}: is blank")
    # Where words need no space, as in Japanese, a space of its own in front is left out.
    if (
        len(pieces) > 1
        and not is_word_character(text.strip()[0])
        and not tokenizer.decode_target([pieces[:1]])[0]
    ):
        return pieces[1:]
    return pieces


def _pieces(tokenizer: Tokenizer, what: str, text: str) -> list[int]:
    pieces = tokenizer.encode_target([text])[0][:-1]
    if UNKNOWN_ID in pieces:
        raise ConstraintError(f"{what} {text!r}: has characters that the vocabulary lacks")
    return pieces

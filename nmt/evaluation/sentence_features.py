"""What can be seen of a source sentence that makes it hard: simple rules, each of which says what it takes.

They are heuristics: a slice of a hundred sentences is told from the others well by rules that are wrong for
some of them. A rule that needs to know a language says nothing about the languages that it does not know.
"""

from collections.abc import Sequence

import regex

from nmt.evaluation.words import words

# Languages that write nouns with a capital letter.
_CAPITAL_NOUNS = {"de", "lb", "nds"}
# Codes of three letters for those of two.
_LANGUAGES = dict(
    zip(
        ["eng", "deu", "ger", "fra", "fre", "spa", "ita", "nld", "dut", "por", "ltz"],
        ["en", "de", "de", "fr", "fr", "es", "it", "nl", "nl", "pt", "lb"],
        strict=True,
    )
)
# Patterns of whole words, case ignored.
_NEGATIONS = {
    "en": r"not|no|never|nobody|nothing|none|nowhere|neither|nor|cannot|without|\p{L}+n['’]t",
    "de": r"nicht|kein\p{L}*|nie|niemals|niemand\p{L}*|nichts|nirgends|nirgendwo|weder|ohne",
    "fr": r"ne|pas|jamais|rien|aucune?|ni|sans|n['’]\p{L}+",
    "es": r"no|nunca|jamás|nadie|nada|ning[uú]n\p{L}*|ni|sin|tampoco",
    "it": r"non|mai|nessun\p{L}*|niente|nulla|né|senza|nemmeno|neanche",
    "nl": r"niet|geen|nooit|niemand|niets|nergens|noch|zonder",
    "pt": r"não|nunca|jamais|ninguém|nada|nenhu\p{L}*|nem|sem",
}
_QUESTION = regex.compile(r"[?？؟՞⸮]['\"”’»«)\]\s]*$")
_TAG = regex.compile(r"\s*(<[^<>\s/][^<>\s]{0,30}>|__[^\s_]+__)(?=\s|$)")
_DIGIT = regex.compile(r"\p{Nd}")
# Where a capital letter says nothing: at the beginning, and behind what ends a sentence or opens speech.
_BEGINNING = regex.compile(r"(?:^|[.!?…:。！？]|[\"“„«‹(\[])\s*[\"“„«‹'‘(\[]*\s*$")


def has_number(source: str) -> bool:
    """True for a digit of any script; numbers in words do not count."""
    return _DIGIT.search(source) is not None


def is_question(source: str) -> bool:
    """True when the sentence ends with a question mark, closing quotes and brackets aside."""
    return _QUESTION.search(source) is not None


def is_negated(source: str, language: str) -> bool | None:
    """True when a word negates; None for a language whose words for it are not known here."""
    pattern = _NEGATIONS.get(_short(language))
    if pattern is None:
        return None
    return any(regex.fullmatch(pattern, word, regex.IGNORECASE) for word in words(source))


def names(source: str, references: Sequence[str], language: str) -> list[str]:
    """Words that are probably names.

    A name has a capital letter and small ones behind it, and stands where a capital letter says something:
    not at the beginning of a sentence or of speech. Where the language writes all nouns so, it must stand
    unchanged in a reference, too.
    """
    found = []
    position = 0
    for word in words(source):
        start = source.index(word, position)
        before, position = source[:start], start + len(word)
        capital = word[0].isupper() and any(char.islower() for char in word[1:])
        # English "I'm".
        if not capital or regex.match(r"I['’]", word) or _BEGINNING.search(before):
            continue
        if _short(language) in _CAPITAL_NOUNS and not any(word in words(text) for text in references):
            continue
        found.append(word)
    return found


def casing(source: str) -> str | None:
    """How a text uses capital letters; None where the script has none."""
    letters = [char for char in source if char.isupper() or char.islower()]
    capitals = sum(char.isupper() for char in letters)
    if not letters:
        return None
    if capitals == 0:
        return "no capital letter"
    # One letter alone, such as the "I" of a short answer, shouts at nobody.
    if capitals == len(letters) and capitals > 1:
        return "capital letters only"
    return "mixed"


def tag(source: str) -> str | None:
    """The tag that a source begins with, such as <2de> or __news__."""
    found = _TAG.match(source)
    return found[1] if found else None


def _short(language: str) -> str:
    code = language.lower().replace("_", "-").partition("-")[0]
    return _LANGUAGES.get(code, code)

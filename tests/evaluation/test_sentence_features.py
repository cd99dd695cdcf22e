"""Rules that sort sentences: what they take, and what they leave."""

import pytest

from nmt.evaluation import sentence_features as features


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Is it?", True),
        ('"Is it?"', True),
        ("ですか？", True),
        ("هل؟ ", True),
        ("Is it? No.", False),
        ("It is", False),
    ],
)
def test_questions_end_as_such(text: str, expected: bool) -> None:
    assert features.is_question(text) is expected


@pytest.mark.parametrize(("text", "expected"), [("3 dogs", True), ("٣ كلاب", True), ("three dogs", False)])
def test_numbers_are_digits_of_any_script(text: str, expected: bool) -> None:
    assert features.has_number(text) is expected


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("He does NOT see it.", "en", True),
        ("He doesn't see it.", "en-GB", True),
        ("He don’t", "eng", True),
        ("He is another nothinger.", "en", False),
        ("Er hat keinen Hund.", "de", True),
        ("Er hat einen Hund.", "de_AT", False),
        ("Je n'ai rien.", "fr", True),
        ("他不来。", "zh", None),
        ("not", "", None),
    ],
)
def test_negation_goes_by_language(text: str, language: str, expected: bool | None) -> None:
    assert features.is_negated(text, language) is expected


@pytest.mark.parametrize(
    ("text", "references", "language", "expected"),
    [
        ("Then Anna Weber saw the NATO in Berlin.", [], "en", ["Anna", "Weber", "Berlin"]),
        ('Anna left. She cried: "Come!" and I\'m gone.', [], "en", []),
        ("We met in May (Paris).", [], "en", ["May"]),
        # A language of capital nouns needs the word in the translation.
        ("Dann sah Anna den Hund.", ["Then Anna saw the dog."], "de", ["Anna"]),
        ("Dann sah Anna den Hund.", ["Then Anna saw the dog."], "deu", ["Anna"]),
        ("Dann sah er den Hund.", ["Then he saw the dog."], "de", []),
        ("在北京", [], "zh", []),
    ],
)
def test_names_are_capitals_that_say_something(
    text: str, references: list[str], language: str, expected: list[str]
) -> None:
    assert features.names(text, references, language) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog", "no capital letter"),
        ("A DOG 3", "capital letters only"),
        ("A dog", "mixed"),
        ("A 3", "mixed"),
        ("我有3本书。", None),
        ("", None),
    ],
)
def test_casing(text: str, expected: str | None) -> None:
    assert features.casing(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<2de> a dog", "<2de>"),
        ("__news__ a", "__news__"),
        ("<b>bold</b>", None),
        ("a <2de>", None),
        ("</s> a", None),
    ],
)
def test_tags_stand_in_front_by_themselves(text: str, expected: str | None) -> None:
    assert features.tag(text) == expected

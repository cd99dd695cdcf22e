"""What can be counted about translations."""

import pytest

from nmt.evaluation.rates import is_copy, is_loop, measure_rates


@pytest.mark.parametrize(
    "text",
    [
        "no no no",
        "a b a b a b",
        "he said the old man said the old man said the old man",
        "哈我们我们我们",
        "ab-ab-ab-",
    ],
)
def test_loops_are_found(text: str) -> None:
    assert is_loop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no no",
        "a b a b a",
        "wait . . .",
        "... !!! ---",
        "so 1000 of 3000",
        "hmmm",
        "Schifffahrt",
        "他说好",
    ],
)
def test_other_texts_are_no_loops(text: str) -> None:
    assert not is_loop(text)


def test_a_copy_is_none_when_a_reference_says_the_same() -> None:
    assert is_copy("The  dog", ["Der Hund"], "the dog")
    assert not is_copy("Berlin", ["Rom", "Berlin"], "Berlin")
    assert not is_copy("the dog", ["Der Hund"], "the dogs")
    assert not is_copy("", ["Der Hund"], "")


def test_rates_are_shares_of_all_sentences() -> None:
    found = measure_rates(
        ["the dog", "go go", "no", " ", "ja ja ja"],
        [["der Hund"], ["geh"], ["nein", "neeee"], [""], ["ja ja ja"]],
        ["the dog", "geh geh geh", "", "", "ja ja ja"],
    )
    assert (found.copy_rate, found.repetition_rate, found.empty_rate) == (0.2, 0.2, 0.2)
    # 7 + 11 + 0 + 0 + 8 characters for 8 + 3 + 4 + 0 + 8.
    assert found.length_ratio == pytest.approx(26 / 23)

"""The page needs nothing from anywhere, and shows as text whatever stands in a test set."""

import base64
import hashlib
import json
import random
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pytest

from nmt.data.test_sets import TestSet
from nmt.evaluation.comparison import compare
from nmt.evaluation.config import ScoringConfig
from nmt.evaluation.evaluation import Decoded, Evaluation, Provenance, Scoring
from nmt.evaluation.report.content import ReportedSystem, make_report
from nmt.evaluation.report.learning_curves import Curve
from nmt.evaluation.report.page import json_block, render
from nmt.evaluation.word_frequency import TrainingWords

HOSTILE = [
    "<script>alert('x')</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!-- <script> --> &amp; <b>bold</b>",
    "{{ 7 * 7 }} {% raw %}",
    '"><svg onload=alert(2)>',
    "שלום <i>עולם</i>!",
    "\u202e backwards \u2028 line",
    "https://example.com/evil.js",
    "",
]


class Page(HTMLParser):
    """The elements and texts of a page, as a browser would find them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.contents: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag in self.contents:
            self.contents[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.contents:
            self.contents[self._inside][-1] += data
        else:
            self.texts.append(data)

    @property
    def data(self) -> Any:
        return json.loads(self.contents["script"][0])


def evaluated(name: str, texts: Sequence[str], outputs: Sequence[str], set_name: str = "news") -> Evaluation:
    test_set = TestSet(
        name=set_name, sources=list(texts), references=[[text] for text in texts], origin=["x"]
    )
    scoring = Scoring.of([test_set], ScoringConfig(resamples=100), language="de")
    decoded = [
        Decoded(text=text, log_probability=-1.0 - number % 7, pieces=5) for number, text in enumerate(outputs)
    ]
    provenance = Provenance(system=name, files={"<weights>": name}, source_language="en", resamples=100)
    return Evaluation(provenance=provenance, test_sets=[scoring.score(test_set, decoded, 1.0)])


def page_of(evaluations: Sequence[Evaluation], names: Sequence[str], *, listed: int = 2000) -> str:
    test_set = evaluations[0].test_sets[0]
    sources = [each.source for each in test_set.sentences]
    return render(
        make_report(
            [
                ReportedSystem(name=name, evaluation=each, curves={"train/loss": Curve([1, 2], [2.0, 1.0])})
                for name, each in zip(names, evaluations, strict=True)
            ],
            compare(evaluations, names, show=0, resamples=100, trials=100),
            test_sets=[test_set.name],
            training=TrainingWords.of([(sources, sources)], origin="<train>"),
            listed=listed,
            resamples=100,
            notes=["<i>maps</i> are left out"],
        )
    )


@pytest.fixture(scope="module")
def hostile() -> str:
    """Two systems with hostile names on a hostile test set with a hostile name."""
    texts = HOSTILE * 3
    first = evaluated("<u>a</u>", texts, texts[::-1], "<s>set</s>")
    second = evaluated("<u>b</u>", texts, texts, "<s>set</s>")
    return page_of([first, second], ["<u>a</u>", "</title><script>b"])


def test_what_looks_like_html_is_text(hostile: str) -> None:
    page = Page(hostile)
    texts = ["a harmless sentence", "Then Anna saw 3 dogs.", "Does he not sleep?"]
    outputs = [texts[1], texts[0], ""]
    harmless = Page(page_of([evaluated(name, texts, outputs) for name in "ab"], ["a", "b"]))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in harmless.elements}
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not [
        (tag, name) for tag, attributes in page.elements for name in attributes if name.startswith("on")
    ]
    shown = "".join(page.texts)
    for text in ("<u>a</u>", "</title><script>b", "<s>set</s>", "<train>", "<i>maps</i>", "<weights>"):
        assert text in shown
    # The worst sentences stand in the page itself.
    assert sum(text in shown for text in HOSTILE[:6]) >= 3


def test_the_script_is_given_every_text_as_it_is(hostile: str) -> None:
    (found,) = Page(hostile).data["sets"]
    assert found["name"] == "<s>set</s>"
    assert [row["s"] for row in found["rows"]] == HOSTILE * 3
    for row in found["rows"]:
        number = row["n"] - 1
        assert "".join(segment[1:] for segment in row["r"][0]) == (HOSTILE * 3)[number]
        assert "".join(segment[1:] for segment in row["h"][0]["t"]) == (HOSTILE[::-1] * 3)[number]
        assert "".join(segment[1:] for segment in row["h"][1]["d"]) == (HOSTILE * 3)[number]


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "&lt;", "\u2028", 'a"b\\', "\x00"])
def test_json_cannot_end_its_script(text: str) -> None:
    block = str(json_block({"t": text}))
    assert json.loads(block) == {"t": text}
    assert not set(block) & set("<>&")


def test_nothing_is_fetched_and_one_script_runs(hostile: str) -> None:
    page = Page(hostile)
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "action", "poster", "data"):
            assert (attributes.get(name) or "#").startswith("#")
        assert "url(" not in (attributes.get("style") or "").replace("url(#", "")
    (style,) = page.contents["style"]
    assert not re.search(r"url\(|@import|https?:", style)
    assert not re.search(
        r"https?:/|fetch\(|XMLHttpRequest|import\(|innerHTML|eval\(", page.contents["script"][1]
    )
    policy = next(
        attributes["content"] or ""
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(page.contents["script"][1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy


def test_texts_find_their_own_direction(hostile: str) -> None:
    page = Page(hostile)
    paragraphs = [attributes for tag, attributes in page.elements if tag == "p" and "class" in attributes]
    texts = [each for each in paragraphs if each["class"] in ("source", "reference")]
    assert texts
    assert all(each.get("dir") == "auto" for each in texts)
    assert 'dir: "auto"' in page.contents["script"][1]


def test_names_that_the_script_looks_for_are_there(hostile: str) -> None:
    page = Page(hostile)
    names = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    wanted = set(re.findall(r'\bat\("([\w-]+)"\)', page.contents["script"][1]))
    assert len(wanted) > 10
    assert wanted <= names


def test_a_thousand_sentences_of_two_systems_take_less_than_three_megabytes() -> None:
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9))) for _ in range(2000)]
    texts = [" ".join(draw.choices(words, k=draw.randint(6, 25))) for _ in range(1000)]
    systems = [
        evaluated(
            name, texts, [" ".join(word for word in text.split() if draw.random() > 0.3) for text in texts]
        )
        for name in "ab"
    ]
    page = page_of(systems, ["a", "b"])
    assert len(Page(page).data["sets"][0]["rows"]) == 1000
    assert len(page.encode()) < 3_000_000
    shorter = Page(page_of(systems, ["a", "b"], listed=30)).data["sets"][0]
    assert (len(shorter["rows"]), shorter["count"]) == (30, 1000)


def test_no_score_stands_without_interval_and_signature() -> None:
    texts = [f"a sentence of number {number}" for number in range(30)]
    evaluation = evaluated("one", texts, texts[1:] + texts[:1])
    shown = " ".join(" ".join(Page(page_of([evaluation], ["one"])).texts).split())
    for score in evaluation.test_sets[0].scores:
        assert score.interval
        assert f"{score.value:.1f} [{score.interval.low:.1f}, {score.interval.high:.1f}]" in shown
        assert score.signature in shown

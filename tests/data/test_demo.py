"""The demo corpus: German and English that agree, one translation each, splits that keep their promise."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from random import Random

import pytest

from nmt.data.demo import corpus as demo
from nmt.data.demo import grammar as demo_grammar
from nmt.data.demo import lexicon as demo_lexicon
from nmt.data.config import DemoConfig
from nmt.data.demo.corpus import SPLITS, HeldOut, demo_pairs, generate, words, write_demo
from nmt.data.demo.grammar import Combination, DemoGrammar, Sample
from nmt.data.demo.lexicon import Verb
from nmt.data.demo.nouns import Options

SMALL = {"train_pairs": 5000, "valid_pairs": 100, "test_pairs": 150}
# Written down here a second time on purpose: gender (or p for plural) and case of every article.
ARTICLES = {
    "der": "m1 f3 f2 p2",
    "die": "f1 f4 p1 p4",
    "das": "n1 n4",
    "den": "m4 p3",
    "dem": "m3 n3",
    "des": "m2 n2",
    "im": "m3 n3",
    "am": "m3 n3",
    "zum": "m3 n3",
    "vom": "m3 n3",
    "beim": "m3 n3",
    "zur": "f3",
    "ins": "n4",
    "ans": "n4",
}
EIN = {"": "m1 n1 n4", "e": "f1 f4 p1 p4", "en": "m4 p3", "em": "m3 n3", "er": "f3 f2 p2", "es": "m2 n2"}
DIESER = {"er": "m1 f3 f2 p2", "e": "f1 f4 p1 p4", "es": "n1 n4 m2 n2", "en": "m4 p3", "em": "m3 n3"}
for stem, ending in product(("mein", "dein", "sein", "ihr", "unser", "kein", "ein"), EIN):
    ARTICLES[stem + ending] = EIN[ending]
for stem, ending in product(("dies", "welch"), DIESER):
    ARTICLES[stem + ending] = DIESER[ending]


@pytest.fixture(scope="module")
def grammar() -> DemoGrammar:
    return DemoGrammar.load()


@pytest.fixture(scope="module")
def samples(grammar: DemoGrammar) -> list[Sample]:
    rng = Random("test")
    return [grammar.sample(rng) for _ in range(30000)]


def noun_readings(grammar: DemoGrammar) -> dict[str, set[str]]:
    """Gender and case that each German noun form can have."""
    readings: dict[str, set[str]] = {}

    def add(form: str, gender: str, cases: str) -> None:
        readings.setdefault(form, set()).update(gender + case for case in cases)

    for noun in grammar.nouns.nouns.values():
        gender = "mfn"[noun.gender]
        if not noun.plural_only:
            add(noun.singular, gender, "1" if noun.weak else "134" if gender != "f" else "1234")
            if noun.weak:
                add(noun.weak, gender, "234")
            elif gender != "f":
                add(noun.genitive, gender, "2")
        if noun.plural:
            add(noun.plural, "p", "124")
            add(noun.plural if noun.plural[-1] in "ns" else noun.plural + "n", "p", "3")
    return readings


def german_noun_phrases(
    grammar: DemoGrammar, samples: list[Sample]
) -> Iterator[tuple[str, list[str], str, str]]:
    """Article, adjectives, noun and sentence of every phrase that begins with an article."""
    adjectives = {
        a.stem + ending
        for found in grammar.nouns.adjectives.values()
        for a in found
        for ending in ("e", "en", "em", "er", "es")
    }
    nouns = noun_readings(grammar)
    for sample in samples:
        forms = words(sample.pair.target)
        after_comma = [False, *(word.endswith(",") for word in sample.pair.target.split())]
        for i, form in enumerate(forms):
            # After a comma it may be a relative pronoun, and "ihr" the dative of "sie".
            if form not in ARTICLES or after_comma[i] or form == "ihr" or "Uhr" in forms[i : i + 2]:
                continue
            end = i + 1
            while end < len(forms) and forms[end] in adjectives:
                end += 1
            if end < len(forms) and forms[end] in nouns:
                yield form, forms[i + 1 : end], forms[end], sample.pair.target


def test_articles_agree_with_their_nouns(grammar: DemoGrammar, samples: list[Sample]) -> None:
    readings = noun_readings(grammar)
    checked = 0
    not_subject = 0
    for article, _, noun, sentence in german_noun_phrases(grammar, samples):
        checked += 1
        fitting = readings[noun] & set(ARTICLES[article].split())
        assert fitting, f"{article} {noun} in: {sentence}"
        # One clause whose subject is a pronoun: nothing else is in the nominative.
        if re.fullmatch(r"(Ich|Du|Wir) (?!.*( als | und |sind|bin|bist|war))[^,]*\.", sentence):
            not_subject += 1
            assert {reading for reading in fitting if reading[1] != "1"}, f"{article} {noun} in: {sentence}"
    assert checked > 20000
    assert not_subject > 500


PREPOSITIONS = {
    "mit": "3",
    "von": "3",
    "zu": "3",
    "bei": "3",
    "auf": "34",
    "über": "4",
    "neben": "34",
    "in": "34",
}


def test_prepositions_govern_their_case(grammar: DemoGrammar, samples: list[Sample]) -> None:
    readings = noun_readings(grammar)
    checked = 0
    for article, adjectives, noun, sentence in german_noun_phrases(grammar, samples):
        phrase = re.escape(" ".join([article, *adjectives, noun]))
        if match := re.search(rf"\b(\w+) {phrase}\b", sentence):
            cases = PREPOSITIONS.get(match[1].lower(), "1234")
            checked += len(cases) < 4
            assert any(r[1] in cases for r in readings[noun] & set(ARTICLES[article].split())), sentence
    assert checked > 2000


def test_adjectives_agree_with_article_and_noun(grammar: DemoGrammar, samples: list[Sample]) -> None:
    readings = noun_readings(grammar)
    checked = 0
    for article, adjectives, noun, sentence in german_noun_phrases(grammar, samples):
        fitting = readings[noun] & set(ARTICLES[article].split())
        after_ein = article.startswith(("ein", "kein", "mein", "dein", "sein", "ihr", "unser"))
        for adjective in adjectives:
            checked += 1
            endings = {expected_ending(reading, after_ein=after_ein) for reading in fitting}
            assert adjective.endswith(tuple(endings)), f"{article} {adjective} {noun} in: {sentence}"
    assert checked > 5000


def expected_ending(reading: str, *, after_ein: bool) -> str:
    gender, case = reading
    if gender == "p" or case in "23" or (gender == "m" and case == "4"):
        return "en"
    return {"m": "er", "f": "e", "n": "es"}[gender] if after_ein else "e"


def finite_forms(grammar: DemoGrammar) -> tuple[set[str], set[str]]:
    """Finite German verbs as they stand in main clauses, and as they stand at the end of a clause."""
    tables = grammar.tables.part["german_auxiliaries"].values()
    plain = {form for table in tables for forms in table.values() for form in forms}
    final = plain | {"regnet", "schneit", "scheint"}
    for verb in grammar.verbs.values():
        forms = {*verb.present, *verb.preterite}
        plain |= forms
        final |= {verb.prefix + form for form in forms}
    return plain, final


def test_the_finite_verb_is_second_after_a_fronted_time(grammar: DemoGrammar, samples: list[Sample]) -> None:
    plain, _ = finite_forms(grammar)
    times = r"(?:Heute|Gestern|Morgen|Montags|Am \d+\. \w+|Jeden \w+|Letzte Woche|Um halb \w+|Im Jahr \d+)"
    checked = 0
    for sample in samples:
        if sample.kind == "statement" and (match := re.match(rf"{times} (\S+)", sample.pair.target)):
            if match[1] in ("um", "früh"):
                continue
            checked += 1
            assert match[1] in plain, sample.pair.target
    assert checked > 500


def test_the_finite_verb_ends_subordinate_clauses(grammar: DemoGrammar, samples: list[Sample]) -> None:
    _, final = finite_forms(grammar)
    checked = 0
    for sample in samples:
        for clause in re.findall(
            r"(?:^|, )(?:[Ww]eil|[Oo]bwohl|dass|ob|[Ww]enn) ([^,.?!]+)[,.?!]", mask_dates(sample)
        ):
            checked += 1
            assert clause.split()[-1] in final, sample.pair.target
    assert checked > 5000


def mask_dates(sample: Sample) -> str:
    return re.sub(r"(\d+)\. ", r"\1 ", sample.pair.target)


def test_separable_verbs_part_in_main_clauses_and_join_elsewhere(
    grammar: DemoGrammar, samples: list[Sample]
) -> None:
    parts: dict[str, set[str]] = {}
    joined: dict[str, str] = {}
    for verb in grammar.verbs.values():
        if verb.prefix:
            parts.setdefault(verb.prefix, set()).update({*verb.present, verb.imperative})
            joined[verb.prefix + "zu" + verb.infinitive] = verb.english
    split = infixed = 0
    for sample in samples:
        forms = words(sample.pair.target)
        if "," not in sample.pair.target and forms[-1] in parts:
            split += 1
            assert parts[forms[-1]] & set(forms), sample.pair.target
        if forms[-1] in joined:
            infixed += 1
            assert joined[forms[-1]] in words(sample.pair.source), sample.pair.source
    assert split > 200
    assert infixed > 100


def test_negation_is_translated_once(samples: list[Sample]) -> None:
    for sample in samples:
        english = [word in ("not", "cannot") for word in words(sample.pair.source)]
        german = [word == "nicht" or re.match("kein", word) is not None for word in words(sample.pair.target)]
        assert sum(english) == sum(german), sample.pair
        for i, j in sample.pair.alignment:
            assert not german[j] or english[i] or "kein" in sample.pair.target, sample.pair


def test_english_articles_and_third_person(grammar: DemoGrammar, samples: list[Sample]) -> None:
    bases = {v.english for v in grammar.verbs.values() if v.past != v.english and v.english != "be"}
    for sample in samples:
        for article, word in re.findall(r"\b(an?) (\w+)", sample.pair.source):
            assert (article == "an") == (word[0] in "aeiou"), sample.pair.source
        if match := re.match(r"(?:He|She|It) (\w+)", sample.pair.source):
            assert match[1] not in bases, sample.pair.source


def test_one_english_sentence_has_one_translation(samples: list[Sample]) -> None:
    translations: dict[str, str] = {}
    for sample in samples:
        found = translations.setdefault(sample.pair.source, sample.pair.target)
        assert found == sample.pair.target, sample.pair.source
    assert len(translations) > 0.95 * len(samples)


def test_words_of_the_lexicon_have_one_translation(grammar: DemoGrammar) -> None:
    """What a random sample hardly finds: two German words for one English word in the same company."""
    for lists in (*grammar.phrases["times"].values(), grammar.phrases["frequency"]):
        patterns = [entry["en"].replace("^", "") for entry in lists]
        assert len(set(patterns)) == len(patterns)
    for first, second in combinations(grammar.verbs.values(), 2):
        if (german := german_words(first)) != german_words(second) and english_words(first) == english_words(
            second
        ):
            ours, theirs = grammar.roles[first.key], grammar.roles[second.key]
            apart = [role for role in ("subject", "object") if not overlap(ours.get(role), theirs.get(role))]
            assert apart or (ours.keys() ^ theirs.keys()) & {"object", "recipient"}, (
                first.key,
                second.key,
                german,
            )


def english_words(verb: Verb) -> tuple[object, ...]:
    before = verb.preposition[0] if verb.preposition else ""
    return verb.english, verb.english_rest, verb.english_particle, verb.complement, before


def german_words(verb: Verb) -> tuple[object, ...]:
    return verb.prefix, verb.infinitive, verb.preposition, verb.reflexive, verb.case, verb.auxiliary


def overlap(first: Options | None, second: Options | None) -> bool:
    if first is None or second is None:
        return first is second
    shared = [noun for noun in (*first.people, *first.others) if noun in (*second.people, *second.others)]
    return bool(shared) or (first.names and second.names)


def test_sentences_look_like_sentences(samples: list[Sample]) -> None:
    for sample in samples:
        for text in (sample.pair.source, sample.pair.target):
            assert re.fullmatch(r"[A-ZÄÖÜ][\w',. -]*[.?!]", text), text
            assert not re.search(r"  | ,|,,|,[.?!]", text), text
            assert len(text.split()) <= 28


def test_alignment_covers_every_word_and_copies_names(samples: list[Sample]) -> None:
    copied = 0
    for sample in samples:
        source, target = sample.pair.source.split(), sample.pair.target.split()
        assert {i for i, _ in sample.pair.alignment} == set(range(len(source))), sample.pair
        assert {j for _, j in sample.pair.alignment} == set(range(len(target))), sample.pair
        links = set(sample.pair.alignment)
        for i, word in enumerate(words(sample.pair.source)):
            if word in ("Berlin", "Hamburg", "Peter", "Anna") and word in words(sample.pair.target):
                copied += 1
                assert any(words(sample.pair.target)[j] == word for k, j in links if k == i), sample.pair
    assert copied > 200


def test_no_entry_of_the_lexicon_is_idle(grammar: DemoGrammar, samples: list[Sample]) -> None:
    english = {word for sample in samples for word in words(sample.pair.source)}
    german = {word for sample in samples for word in words(sample.pair.target)}
    for verb in grammar.verbs.values():
        assert {verb.english, verb.third, verb.past} & english, verb.key
        assert {p + form for form in (*verb.present, verb.infinitive) for p in ("", verb.prefix)} & german, (
            verb.key
        )
    for noun in grammar.nouns.nouns.values():
        assert {*noun.key.split(), noun.english_plural} & english, noun.key
    for adjective in {a.key for found in grammar.nouns.adjectives.values() for a in found}:
        assert adjective in english, adjective


def test_two_digit_numbers_turn_round(grammar: DemoGrammar) -> None:
    numbers = dict(grammar.nouns.lists["number"])
    assert numbers["twenty-one"] == "einundzwanzig"
    assert numbers["thirty-six"] == "sechsunddreißig"
    assert numbers["seventy"] == "siebzig"
    assert len(numbers) == 98


class Recorder(DemoGrammar):
    """A grammar that keeps the combinations of every sentence it gave."""

    def sample(self, rng: Random) -> Sample:
        sample = super().sample(rng)
        self.__dict__.setdefault("record", {}).setdefault(sample.pair.source, set()).update(
            sample.combinations
        )
        return sample


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> DemoConfig:
    config = DemoConfig(folder=str(tmp_path_factory.mktemp("demo") / "corpus"), **SMALL)
    write_demo(config)
    return config


def lines(config: DemoConfig, split: str, suffix: str) -> list[str]:
    return (Path(config.folder) / f"{split}.{suffix}").read_text("utf-8").splitlines()


def test_files_have_the_right_size_and_no_sentence_twice(corpus: DemoConfig) -> None:
    sizes = {"train": 5000, "valid": 100, "test_random": 150, "test_compositional": 150}
    sources: list[str] = []
    for split in SPLITS:
        assert len(lines(corpus, split, "en")) == len(lines(corpus, split, "de")) == sizes[split]
        sources += lines(corpus, split, "en")
    assert len(set(sources)) == len(sources)


def test_compositional_words_are_known_and_their_combination_is_not(corpus: DemoConfig) -> None:
    recorder = Recorder.load()
    splits = generate(corpus, recorder)
    record: dict[str, set[Combination]] = recorder.__dict__["record"]
    held_out = HeldOut(corpus.seed)
    for split, pairs in splits.items():
        assert [pair.source for pair in pairs] == lines(corpus, split, "en")
        for pair in pairs:
            unknown = {c for c in record[pair.source] if c in held_out}
            assert bool(unknown) == (split == "test_compositional"), (pair.source, unknown)
    for suffix in ("en", "de"):
        known = {word for line in lines(corpus, "train", suffix) for word in words(line)}
        assert all(
            word in known for line in lines(corpus, "test_compositional", suffix) for word in words(line)
        )


def test_held_out_adjectives_never_stand_before_their_nouns_in_training(
    corpus: DemoConfig, grammar: DemoGrammar
) -> None:
    held_out = HeldOut(corpus.seed)
    bigrams = {
        f" {adjective.key} {form}"
        for key, adjectives in grammar.nouns.adjectives.items()
        for adjective in adjectives
        # "The parents clean rooms" has no adjective.
        if adjective.key != "clean" and ("adjective noun", adjective.key, key) in held_out
        for noun in {key, grammar.nouns.nouns[key].english_plural}
        for form in (noun, noun + ",")
    }
    assert len(bigrams) > 100

    def found(split: str) -> int:
        """Held-out pairs that stand side by side; a comma between them parts them."""
        text = [re.sub(r"[.?!]$", "", line) for line in lines(corpus, split, "en")]
        pairs = {f" {a} {b}" for line in text for a, b in zip(line.split(), line.split()[1:], strict=False)}
        return len(bigrams & pairs)

    assert found("train") == found("valid") == found("test_random") == 0
    assert found("test_compositional") > 10


def test_pairs_come_back_from_the_files_with_their_alignment(corpus: DemoConfig) -> None:
    expected = generate(corpus, DemoGrammar.load())
    for split in SPLITS:
        assert demo_pairs(corpus, split) == expected[split]
    with pytest.raises(ValueError, match="no part 'test'"):
        demo_pairs(corpus, "test")


def stamps(config: DemoConfig) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(config.folder).iterdir()}


def test_a_second_call_does_nothing(corpus: DemoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stamps(corpus)
    monkeypatch.setattr(demo, "generate", lambda *_: pytest.fail("made again"))
    write_demo(corpus)
    assert stamps(corpus) == before


def tiny(folder: Path, seed: int = 1) -> DemoConfig:
    return DemoConfig(folder=str(folder), train_pairs=1500, valid_pairs=10, test_pairs=10, seed=seed)


def test_a_change_of_settings_grammar_or_files_makes_the_corpus_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "corpus"
    write_demo(tiny(folder))
    first = (folder / "train.en").read_text("utf-8")
    write_demo(tiny(folder, seed=2))
    second = (folder / "train.en").read_text("utf-8")
    assert first != second
    (folder / "train.en").write_text("cut\n", "utf-8")
    write_demo(tiny(folder, seed=2))
    assert (folder / "train.en").read_text("utf-8") == second
    changed = tmp_path / "grammar"
    shutil.copytree(demo_lexicon.grammar_folder(), changed)
    nouns = (changed / "nouns.yaml").read_text("utf-8")
    (changed / "nouns.yaml").write_text(nouns.replace("der Hund,", "der Wauwau,"), "utf-8")
    monkeypatch.setattr(demo_grammar, "grammar_folder", lambda: changed)
    write_demo(tiny(folder, seed=2))
    assert "Wauwau" in (folder / "train.de").read_text("utf-8")


def test_two_processes_at_once_leave_one_whole_corpus(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    code = (
        "from nmt.data.config import DemoConfig; from nmt.data.demo.corpus import write_demo; "
        f"write_demo(DemoConfig(folder={str(folder)!r}, train_pairs=1500, valid_pairs=10, test_pairs=10))"
    )
    # Different hash seeds: the corpus must not depend on the order of a set.
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path.cwd())}
        )
        for seed in ("1", "2")
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "made.json",
        *(f"{split}.{suffix}" for split in SPLITS for suffix in ("en", "de", "align")),
    }
    expected = generate(tiny(folder), DemoGrammar.load())
    assert demo_pairs(tiny(folder), "train") == expected["train"]


def test_test_sentences_do_not_depend_on_the_amount_of_training_data() -> None:
    grammar = DemoGrammar.load()
    few = generate(DemoConfig(train_pairs=1500, valid_pairs=20, test_pairs=20), grammar)
    more = generate(DemoConfig(train_pairs=2000, valid_pairs=20, test_pairs=20), grammar)
    assert few["test_random"] == more["test_random"]
    assert few["train"] == more["train"][:1500]


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"data\.demo\.test_pairs"):
        DemoConfig(test_pairs=0)
    with pytest.raises(ValueError, match=r"data\.demo\.train_pairs=1 is too small"):
        generate(DemoConfig(train_pairs=1, valid_pairs=1, test_pairs=1), DemoGrammar.load())

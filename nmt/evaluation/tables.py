"""Scores as text for a terminal; no score stands there without its signature."""

from collections.abc import Sequence

from nmt.evaluation.comparison import Comparison, Pair
from nmt.evaluation.evaluation import EvaluatedSet, Evaluation

# What systems are called in the tables of a comparison.
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Fields that differ in any two models, or stand in the list of systems already.
_TOLD_ELSEWHERE = ("files.", "card.", "training.seed", "training.run.")
# Further fields are counted only.
_LISTED = 8


def table(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Rows in columns two spaces apart; `sides` has `<` for a column flush left, `>` for one flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    form = "  ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
    return [form.format(*row).rstrip() for row in rows]


def evaluation_table(evaluation: Evaluation) -> str:
    """The scores, one per line, what can be counted about each test set, and how all was obtained."""
    rows = [("test set", "sentences", "metric", "score", "95 % interval", "signature")]
    for own in evaluation.test_sets:
        for place, found in enumerate(own.scores):
            name, count = ("", "") if place else (own.name, f"{len(own.sentences):,}")
            interval = str(found.interval) if found.interval else "-"
            rows.append((name, count, found.name, f"{found.value:.2f}", interval, found.signature))
    lines = table(rows, "<><>><")
    return "\n".join([*lines, *_rates(evaluation.test_sets), origin(evaluation)])


def origin(evaluation: Evaluation) -> str:
    """System, hash, decoding, device and speed on one line."""
    found = evaluation.provenance
    name, digest = next(iter(found.files.items()), ("file", ""))
    parts = [f"model {found.system}" if found.decoding else found.system, f"{name} sha256:{digest[:12]}"]
    if found.decoding:
        parts.append(f"beam {found.decoding['beam_size']}")
        parts.append(f"length penalty {found.decoding['length_penalty']:g}")
    if found.device:
        parts.append(f"{found.dtype} on {found.device}")
    timed = [own for own in evaluation.test_sets if own.seconds is not None]
    seconds = sum(own.seconds or 0.0 for own in timed)
    if timed:
        speed = sum(len(own.sentences) for own in timed) / max(seconds, 1e-9)
        parts.append(f"{seconds:.1f} s ({speed:.1f} sentences/s)")
    return ", ".join(parts)


def _rates(test_sets: Sequence[EvaluatedSet]) -> list[str]:
    rows: list[tuple[str, ...]] = [("", "length ratio", "copied", "repeating", "empty")]
    for own in test_sets:
        shares = (own.rates.copy_rate, own.rates.repetition_rate, own.rates.empty_rate)
        cells = (f"{own.rates.length_ratio:.3f}", *(f"{100 * share:.1f} %" for share in shares))
        rows.append((own.name, *cells))
    return table(rows, "<>>>>")


def comparison_table(comparison: Comparison) -> str:
    """Who the systems are, their scores, what is significant, and the sentences that differ most."""
    names = dict(zip(_LETTERS, comparison.names, strict=False))
    width = max(map(len, names.values()))
    lines = [
        f"{letter}  {name:{width}}  {_where(evaluation)}".rstrip()
        for (letter, name), evaluation in zip(names.items(), comparison.evaluations, strict=True)
    ]
    for test_set in dict.fromkeys(pair.test_set for pair in comparison.pairs):
        lines += ["", *_scores_of_systems(comparison, test_set)]
        pairs = [pair for pair in comparison.pairs if pair.test_set == test_set]
        lines += ["", *_verdicts(pairs)]
    lines += _seeds(comparison)
    lines += _provenance(comparison)
    for pair in comparison.pairs:
        lines += _sentences(pair)
    return "\n".join(lines)


def _where(evaluation: Evaluation) -> str:
    found = evaluation.provenance
    digest = next(iter(found.files.values()), "")[:12]
    seed = f", seed {found.seed}" if found.seed is not None else ""
    return f"sha256:{digest}{seed}, {found.date}"


def _scores_of_systems(comparison: Comparison, test_set: str) -> list[str]:
    rows = [("test set", "system", "metric", "score", "95 % interval", "signature")]
    label = test_set
    for letter, evaluation in zip(_LETTERS, comparison.evaluations, strict=False):
        own = evaluation.test_set(test_set)
        for place, score in enumerate(own.scores if own else []):
            interval = str(score.interval) if score.interval else "-"
            system = "" if place else letter
            rows.append((label, system, score.name, f"{score.value:.2f}", interval, score.signature))
            label = ""
    return table(rows, "<<<>><")


def _verdicts(pairs: Sequence[Pair]) -> list[str]:
    rows = [("", "metric", "difference", "95 % interval", "bootstrap p", "win/tie/loss", "verdict")]
    for pair in pairs:
        letters = f"{_LETTERS[pair.second]} - {_LETTERS[pair.first]}"
        for place, found in enumerate(pair.metrics):
            test = found.significance
            rows.append(
                (
                    "" if place else letters,
                    found.metric,
                    f"{test.difference:+.2f}",
                    f"[{test.interval.low:+.2f}, {test.interval.high:+.2f}]",
                    f"{test.bootstrap_p:.4f}",
                    f"{found.wins}/{found.ties}/{found.losses}",
                    found.verdict,
                )
            )
    return table(rows, "<<>>>><")


def _seeds(comparison: Comparison) -> list[str]:
    rows = [("seeds of one configuration", "test set", "metric", "mean", "deviation", "n", "signature")]
    for found in comparison.seeds:
        letters = ", ".join(_LETTERS[place] for place in found.systems)
        figures = (f"{found.mean:.2f}", f"{found.deviation:.2f}", str(found.count))
        rows.append((letters, found.test_set, found.metric, *figures, found.signature))
    return ["", *table(rows, "<<<>>><")] if len(rows) > 1 else []


def _provenance(comparison: Comparison) -> list[str]:
    """What is not equal, in full when the systems are one model."""
    lines = []
    for place, found in enumerate(comparison.differences, start=1):
        letters = f"{_LETTERS[0]} / {_LETTERS[place]}"
        if comparison.same_model(place):
            same = "the same scores" if comparison.same_scores(place) else "other scores"
            # The card and the training made these very files, whatever they are.
            telling = [str(each) for each in found if not each.field.startswith(("card.", "training."))]
            what = "; ".join(telling) or "nothing"
            lines += ["", f"{letters}: the same files, {same}; provenance differs in: {what}"]
            continue
        if not all(comparison.evaluations[each].provenance.decoding for each in (0, place)):
            continue  # Nothing is known of where a file of translations comes from.
        if telling := [str(each) for each in found if not each.field.startswith(_TOLD_ELSEWHERE)]:
            more = f" and {len(telling) - _LISTED} more" if len(telling) > _LISTED else ""
            lines += ["", f"{letters} differ in: {'; '.join(telling[:_LISTED])}{more}"]
    return lines


def _sentences(pair: Pair) -> list[str]:
    letters = [_LETTERS[place] for place in (pair.first, pair.second)]
    total = sum((pair.metrics[0].wins, pair.metrics[0].ties, pair.metrics[0].losses))
    lines = [
        "",
        f"{pair.test_set}, {' and '.join(letters)}: {pair.equal_translations:,} of {total:,} translations are"
        " the same"
        + (f"; by {pair.sentence_metric} of sentences these differ most:" if pair.sentences else ""),
    ]
    for each in pair.sentences:
        lines.append(f"  {each.number}  {each.first_score:.1f} -> {each.second_score:.1f}")
        texts = [("source", each.source), *(("reference", text) for text in each.references)]
        texts += list(zip(letters, (each.first, each.second), strict=True))
        lines += [f"    {name:<9}  {text}" for name, text in texts]
    return lines

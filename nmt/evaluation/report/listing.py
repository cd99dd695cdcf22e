"""The sentences of a test set side by side, as the page's script reads them.

Names are short, because they are repeated for each sentence:

    {"name", "metric", "higher": whether more is better, "count": of all sentences,
     "slices": [[group, label]],
     "rows": [{"n": number from 1, "s": source, "k": numbers of its slices,
               "r": [reference in segments], "h": [one for each system:
               {"t": translation in segments against the nearest reference, "d": against the first system,
                "c": score, "p": confidence or null, "f": faults, "m": attention map, where there is one}]}]}

Segments are those of `nmt.evaluation.report.differences`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nmt.evaluation.calibration import confidence
from nmt.evaluation.evaluation import EvaluatedSet
from nmt.evaluation.metrics import higher_is_better
from nmt.evaluation.report.attention import CompactMap
from nmt.evaluation.report.differences import missing, nearest, segments
from nmt.evaluation.slices import Slice
from nmt.evaluation.worst_sentences import faults, scores_of_sentences, sentence_metric

# Attention maps by system and place.
Maps = Mapping[tuple[int, int], CompactMap]


def listed_places(count: int, most: int) -> list[int]:
    """Places of the sentences that are listed: all of them, or `most` drawn evenly."""
    if count <= most:
        return list(range(count))
    return sorted({place * count // most for place in range(most)})


def list_sentences(
    systems: Sequence[EvaluatedSet], slices: Sequence[Slice], places: Sequence[int], maps: Maps
) -> dict[str, Any]:
    """The given places of one test set, translated by each of the systems."""
    first = systems[0]
    metric = sentence_metric(first)
    members = [set(part.sentences) for part in slices]
    scores = [scores_of_sentences(own) for own in systems]
    rows = []
    for place in places:
        sentence = first.sentences[place]
        hypotheses = [own.sentences[place].hypothesis for own in systems]
        rows.append(
            {
                "n": place + 1,
                "s": sentence.source,
                "k": [number for number, member in enumerate(members) if place in member],
                "r": [missing(text, hypotheses) for text in sentence.references],
                "h": [
                    {
                        **_translation(own, place, hypotheses[0] if number else None),
                        "c": round(float(scores[number][place]), 1),
                        **({"m": found.as_json()} if (found := maps.get((number, place))) else {}),
                    }
                    for number, own in enumerate(systems)
                ],
            }
        )
    return {
        "name": first.name,
        "metric": metric,
        "higher": higher_is_better(metric),
        "count": len(first.sentences),
        "slices": [[part.group, part.label] for part in slices],
        "rows": rows,
    }


def _translation(own: EvaluatedSet, place: int, first: str | None) -> dict[str, Any]:
    sentence = own.sentences[place]
    sure = confidence(sentence)
    found: dict[str, Any] = {
        "t": segments(sentence.hypothesis, nearest(sentence.hypothesis, sentence.references)),
        "p": None if sure is None else round(sure, 3),
    }
    if first is not None:
        found["d"] = segments(sentence.hypothesis, first)
    if wrong := faults(sentence):
        found["f"] = wrong
    return found

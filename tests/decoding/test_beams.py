"""The steps of the search, one by one."""

import math

import pytest
import torch

from nmt.decoding.beams import Batch, Beams, Candidates, Kept, Penalty, expand, grow, keep, settled
from nmt.decoding.best_pieces import best_pieces
from nmt.decoding.config import LengthPenalty, Stopping

CPU = torch.device("cpu")
END = 3
EMPTY = -math.inf
PENALTY = Penalty(exponent=1.0)


def beams_of(log_probs: list[float], pieces: list[list[int]]) -> Beams:
    """The beams of one sentence."""
    ids = torch.zeros(1, len(log_probs), dtype=torch.long)
    return Beams(torch.tensor([log_probs]), torch.tensor([pieces]), ids, ids.clone())


def candidates_of(*candidates: tuple[float, int, int]) -> Candidates:
    log_probs, origins, ids = zip(*candidates, strict=True)
    return Candidates(torch.tensor([log_probs]), torch.tensor([origins]), torch.tensor([ids]))


def expand_one(
    logits: list[list[float]], log_probs: list[float], **changes: object
) -> list[tuple[float, int, int]]:
    settings = {"must_end_B": torch.tensor([False]), "end_id": END, "width": len(log_probs)} | changes
    pieces = best_pieces(torch.tensor([logits]), 2 * len(log_probs), banned_ids=torch.tensor([0]), end_id=END)
    found = expand(pieces, torch.tensor([log_probs]), **settings)  # type: ignore[arg-type]
    columns = (found.log_probs_BC[0].tolist(), found.origins_BC[0].tolist(), found.ids_BC[0].tolist())
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [5, 64, 700, 1279, 1280, 1281, 1343, 5000])
@pytest.mark.parametrize("count", [2, 10])
def test_best_pieces_are_those_of_the_whole_softmax(vocabulary: int, count: int, dtype: torch.dtype) -> None:
    logits_BWV = torch.randn(13, 3, vocabulary, generator=torch.Generator().manual_seed(vocabulary)).to(dtype)
    log_probs_BWV = logits_BWV.float().log_softmax(-1)
    banned = torch.tensor([0, 1, 2])
    values, ids, end = best_pieces(logits_BWV.clone(), count, banned_ids=banned, end_id=END)
    assert values.dtype == torch.float32
    torch.testing.assert_close(end, log_probs_BWV[..., END])
    torch.testing.assert_close(log_probs_BWV.gather(-1, ids)[values > EMPTY], values[values > EMPTY])
    log_probs_BWV[..., banned] = -torch.inf
    expected = log_probs_BWV.topk(min(count, vocabulary))
    torch.testing.assert_close(values.sort(descending=True).values, expected.values)


def test_logits_as_large_as_floats_get_are_no_trouble() -> None:
    logits = torch.tensor([[[0.0, 1e30, 3e4, -1e30, 3e4, 2.9e4]]])
    values, ids, _ = best_pieces(logits, 2, banned_ids=torch.tensor([0]), end_id=END)
    assert ids[0, 0, values[0, 0].argmax()] == 1
    assert values.max() == 0


def test_wu_penalty_grows_with_the_length_of_a_sequence() -> None:
    # Seven pieces: (5 + 7) / 6 = 2.
    length = torch.tensor(7)
    assert Penalty(exponent=1.0)(torch.tensor(-6.0), length).item() == pytest.approx(-3)
    assert Penalty(exponent=2.0)(torch.tensor(-6.0), length).item() == pytest.approx(-1.5)
    assert Penalty(exponent=0.0)(torch.tensor(-6.0), length).item() == -6


def test_power_penalty_divides_by_the_length() -> None:
    penalty = Penalty(formula=LengthPenalty.power, exponent=1.0)
    assert penalty(torch.tensor(-6.0), torch.tensor(3)).item() == pytest.approx(-2)


def test_candidates_are_the_best_sums_over_all_beams() -> None:
    halves = [EMPTY, EMPTY, EMPTY, EMPTY, math.log(0.5), math.log(0.5)]
    skewed = [EMPTY, EMPTY, EMPTY, math.log(0.9), math.log(0.1), EMPTY]
    found = expand_one([halves, skewed], [math.log(0.3), math.log(0.6)])
    assert [(origin, piece) for _, origin, piece in found] == [(1, 3), (0, 4), (0, 5), (1, 4)]
    assert [math.exp(log_prob) for log_prob, _, _ in found] == pytest.approx([0.54, 0.15, 0.15, 0.06])


def test_banned_pieces_keep_their_share_of_the_probability() -> None:
    logits = [math.log(0.7), EMPTY, EMPTY, math.log(0.1), math.log(0.2), EMPTY]
    found = expand_one([logits], [0.0])
    assert [piece for _, _, piece in found] == [4, 3]
    assert math.exp(found[0][0]) == pytest.approx(0.2)


def test_at_the_greatest_length_every_beam_ends() -> None:
    logits = [[0.0, 1.0, 5.0, -3.0, 2.0, 1.0]] * 2
    found = expand_one(logits, [-1.0, -2.0], must_end_B=torch.tensor([True]))
    end = torch.tensor(logits[0]).log_softmax(-1)[END].item()
    assert [(origin, piece) for _, origin, piece in found[:2]] == [(0, END), (1, END)]
    assert [log_prob for log_prob, _, _ in found] == pytest.approx([end - 1, end - 2, EMPTY, EMPTY])


def test_beams_grow_by_the_best_that_do_not_end() -> None:
    beams = beams_of([-1.0, -2.0], [[4, 0, 0], [5, 0, 0]])
    candidates = candidates_of((-1.1, 1, END), (-1.5, 1, 7), (-1.6, 0, END), (-1.7, 0, 8))
    grown = grow(beams, candidates, positions_B=torch.tensor([1]), end_id=END)
    assert grown.log_probs_BW.tolist() == [pytest.approx([-1.5, -1.7])]
    assert grown.pieces_BWT.tolist() == [[[5, 7, 0], [4, 8, 0]]]
    assert grown.ids_BW.tolist() == [[7, 8]]
    assert grown.origins_BW.tolist() == [[1, 0]]


def test_beams_without_a_continuation_are_empty() -> None:
    beams = beams_of([-1.0, -2.0], [[4, 0], [5, 0]])
    candidates = candidates_of((-1.1, 1, END), (-1.5, 0, END), (EMPTY, 0, 4), (EMPTY, 1, 4))
    assert grow(beams, candidates, positions_B=torch.tensor([1]), end_id=END).log_probs_BW.tolist() == [
        [EMPTY, EMPTY]
    ]


def test_ends_are_kept_by_penalised_score_and_only_from_the_best_ranks() -> None:
    beams = beams_of([-1.0, -2.0], [[4, 5, 0], [6, 7, 0]])
    kept = Kept.start(1, 2, CPU)
    kept.pieces_BWT = kept.pieces_BWT[..., :3]
    first = candidates_of((-4.0, 1, END), (-4.5, 0, 4), (-4.6, 0, END), (-5.0, 1, 4))
    kept = keep(kept, beams, first, positions_B=torch.tensor([0]), end_id=END, penalty=PENALTY)
    assert kept.scores_BW.tolist() == [[-4.0, EMPTY]]
    # Less probable but longer: 8 / 6 divides its log-probability.
    second = candidates_of((-4.8, 1, END), (-9.0, 0, END), (-9.5, 0, 4), (-9.6, 1, 4))
    kept = keep(kept, beams, second, positions_B=torch.tensor([2]), end_id=END, penalty=PENALTY)
    assert kept.scores_BW.tolist() == [pytest.approx([-3.6, -4.0])]
    assert kept.log_probs_BW.tolist() == [pytest.approx([-4.8, -4.0])]
    assert kept.lengths_BW.tolist() == [[3, 1]]
    assert kept.pieces_BWT[0, 0].tolist() == [6, 7, END]


@pytest.mark.parametrize(
    ("scores", "growing", "by_bound", "by_count"),
    [
        ([-1.0, -3.0], -6.1, True, True),  # at best -6.1 / 2 at length 7
        ([-1.0, -3.0], -5.9, False, True),
        ([-1.0, EMPTY], -9.0, False, False),
        ([-1.0, EMPTY], EMPTY, True, True),
        ([-1.0], -1.1, True, True),
        ([EMPTY], -1.1, False, False),
    ],
)
def test_a_sentence_is_done_when_nothing_can_beat_the_worst_kept_or_enough_are_kept(
    scores: list[float], growing: float, by_bound: bool, by_count: bool
) -> None:
    width = len(scores)
    kept = Kept.start(1, width, CPU)
    kept.scores_BW = torch.tensor([scores])
    beams = beams_of([growing, *[EMPTY] * (width - 1)], [[0] * 7] * width)
    for stopping, done in ((Stopping.bound, by_bound), (Stopping.count, by_count)):
        found = settled(kept, beams, max_lengths_B=torch.tensor([7]), penalty=PENALTY, stopping=stopping)
        assert found.tolist() == [done]


def test_rows_are_replaced_and_room_grows() -> None:
    batch = Batch.start(torch.tensor([40, 40, 40]), 2)
    batch.make_room(33)
    batch.beams.pieces_BWT[:, :, 32] = 7
    other = Batch.start(torch.tensor([9]), 2)
    other.positions_B += 5
    other.kept.scores_BW += 100
    batch.put(torch.tensor([1]), other)
    assert batch.max_lengths_B.tolist() == [40, 9, 40]
    assert batch.positions_B.tolist() == [0, 5, 0]
    assert batch.beams.pieces_BWT[:, 0, 32].tolist() == [7, 0, 7]
    assert batch.select(torch.tensor([2, 1])).max_lengths_B.tolist() == [40, 9]

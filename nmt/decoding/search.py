"""Beam search over a step function: ids in, hypotheses out. Knows no model and no text.

Searched are the sequences of at most `max_lengths[b]` pieces that end with END. Sentences are searched in
rows; when some are done, others that wait take their rows, and when none wait the rows go.

Shapes: B rows, W beams, V vocabulary.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from nmt.decoding.beams import Batch
from nmt.decoding.extension import BestFirst, Extension, Hypothesis, SearchRules

# Rows change hands once the sentences of one in so many are done: a change costs something, and until then a
# done sentence costs its share of every step.
_LEAVERS_SHARE = 8
# Steps between two questions "who is done?" on an accelerator, where the host waits for the answer.
_ACCELERATOR_STEPS_PER_CHECK = 4


def few_sizes(rows: int) -> int:
    """The least of a few batch sizes that holds so many rows: 1 to 8, 16, 24, ... 64, 80, ... 128, 160, ...

    A CPU writes code for every new shape of a product, and keeps that of a few hundred.
    """
    step = 1 if rows <= 8 else max(8, 1 << (rows - 1).bit_length() >> 3)
    return -(-rows // step) * step


def most_of_few_sizes(rows: int) -> int:
    """The greatest of the few batch sizes that is no greater than `rows`."""
    size = rows
    while few_sizes(size) > rows:
        size -= 1
    return size


class StepCache(Protocol):
    """What a decoder remembers between steps, one entry per beam of each row."""

    def reorder(self, origin_BW: Tensor) -> None:
        """Beam w of row b goes on from what beam origin_BW[b, w] of that row has seen."""

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in that order."""

    def admit(self, rows: Tensor, other: Self) -> None:
        """Put the rows of another cache in the place of these."""


C = TypeVar("C", bound=StepCache)
# Numbers of sentences -> the cache of rows in which they begin.
Start = Callable[[Sequence[int]], C]
# ids_BW, cache -> logits_BWV of the piece that follows. Of a cache that has just been started only the first
# beam of every row is asked for.
Step = Callable[[Tensor, C], Tensor]


class BeamSearch(Generic[C]):
    """The sentences that wait, those in rows, and the results of those that are done."""

    cache: C

    def __init__(
        self,
        start: Start[C],
        step: Step[C],
        rules: SearchRules,
        *,
        max_lengths: Sequence[int],
        rows: int,
        device: torch.device,
        extend: Extension[C] | None = None,
        advance: Callable[[int], object] = lambda sentences: None,
    ) -> None:
        """
        Args:
            start, step: the model; when a cache has just begun, only the first beam of each row steps.
            max_lengths: the greatest length, at least 1, of each sentence, END included.
            rows: sentences that are searched at a time; the first ones begin first.
            extend: how the step of the search is done, plain beam search if not given.
            advance: is told how many more sentences are done.
        """
        self.start, self.model_step, self.rules = start, step, rules
        self.max_lengths, self.rows, self.device, self.advance = max_lengths, rows, device, advance
        self.extend: Extension[C] = BestFirst(rules, device) if extend is None else extend
        # Nothing is found where the logits are no numbers.
        self.results: list[list[Hypothesis]] = [[] for _ in max_lengths]
        self.waiting = deque(range(len(max_lengths)))
        # The sentence of each row.
        self.numbers: list[int] = []
        self.batch = Batch.start(torch.empty(0, dtype=torch.long, device=device), rules.beam_size)
        self.longest = self.limit = self.steps = 0

    def run(self) -> list[list[Hypothesis]]:
        """Up to `beam_size` distinct hypotheses of each sentence, best first.

        Scores are float32. A sentence's result depends on its own logits alone, not on its neighbours.
        """
        self._change_rows([])
        while self.numbers:
            # A single beam has nothing to reorder.
            if self.rules.beam_size > 1:
                self.cache.reorder(self.batch.beams.origins_BW)
            logits_BWV = self.model_step(self.batch.beams.ids_BW, self.cache)
            self.batch.make_room(self.longest + 1)
            done_B = self.extend(self.batch, logits_BWV, self.cache)
            self.longest += 1
            self.steps += 1
            full = self.longest == self.limit
            if full or self.device.type == "cpu" or self.steps % _ACCELERATOR_STEPS_PER_CHECK == 0:
                leaving = [row for row, is_done in enumerate(done_B.tolist()) if is_done]
                # A row that is as long as it may be cannot stay for company.
                if not full:
                    leaving = leaving[: self._leavers(len(leaving))]
                if leaving:
                    self._change_rows(leaving)
        return self.results

    def _leavers(self, done: int) -> int:
        """How many of so many rows that are done leave now."""
        rows = len(self.numbers)
        if done == rows:
            return done
        arriving = most_of_few_sizes(min(done, len(self.waiting)))
        leavers = max(arriving, rows + arriving - few_sizes(rows + arriving - done))
        return leavers if leavers * _LEAVERS_SHARE >= rows else 0

    def _change_rows(self, leaving: list[int]) -> None:
        """Read out the sentences of these rows, and give the rows to waiting ones or give them up."""
        if leaving:
            self._read_out(leaving)
            self.advance(len(leaving))
        # Rows that were given up do not come back.
        arriving = min(len(leaving) if self.numbers else self.rows, len(self.waiting))
        if self.numbers:
            arriving = most_of_few_sizes(arriving)
        arrivals = [self.waiting.popleft() for _ in range(arriving)]
        if arrivals:
            cache, batch = self._begin(arrivals)
            if len(leaving) == len(self.numbers):
                self.cache, self.batch, self.numbers, leaving = cache, batch, arrivals, []
            else:
                taken, leaving = leaving[: len(arrivals)], leaving[len(arrivals) :]
                rows = torch.tensor(taken, device=self.device)
                self.cache.admit(rows, cache)
                self.batch.put(rows, batch)
                for row, number in zip(taken, arrivals, strict=True):
                    self.numbers[row] = number
        if leaving:
            staying = sorted(set(range(len(self.numbers))) - set(leaving))
            self.numbers = [self.numbers[row] for row in staying]
            if staying:
                rows = torch.tensor(staying, device=self.device)
                self.cache.select(rows)
                self.batch = self.batch.select(rows)
        if self.numbers:
            self.longest = int(self.batch.positions_B.max())
            self.limit = max(self.max_lengths[number] for number in self.numbers)

    def _begin(self, numbers: list[int]) -> tuple[C, Batch]:
        """New rows and their first step, which one beam takes for all."""
        max_lengths_B = torch.tensor([self.max_lengths[number] for number in numbers], device=self.device)
        batch = Batch.start(max_lengths_B, self.rules.beam_size, torch.tensor(numbers, device=self.device))
        batch.beams.log_probs_BW[:, 0] = 0
        cache = self.start(numbers)
        begin_B1 = torch.full((len(numbers), 1), self.rules.begin_id, device=self.device)
        self.extend(batch, self.model_step(begin_B1, cache), cache)
        return cache, batch

    def _read_out(self, rows: list[int]) -> None:
        batch = self.batch.select(torch.tensor(rows, device=self.device))
        kept = batch.kept
        finished_BW = kept.lengths_BW < batch.max_lengths_B[:, None]
        columns = (kept.scores_BW, kept.log_probs_BW, kept.lengths_BW, kept.pieces_BWT, finished_BW)
        for row, *places in zip(rows, *(column.tolist() for column in columns), strict=True):
            found = [
                Hypothesis(
                    pieces=pieces[: length - 1], score=score, log_probability=log_prob, finished=finished
                )
                for score, log_prob, length, pieces, finished in zip(*places, strict=True)
                if score > -math.inf
            ]
            self.results[self.numbers[row]] = self.extend.arrange(found)


def force_scores(
    step: Step[C],
    cache: C,
    hypotheses: Sequence[Sequence[Sequence[int]]],
    *,
    begin_id: int,
    end_id: int,
    device: torch.device,
) -> list[list[float]]:
    """Log-probability of each given hypothesis (pieces without END) followed by END.

    `hypotheses[b]` are as many as the cache has beams per sentence. Nothing is banned.
    """
    lengths_BW = torch.tensor([[len(h) + 1 for h in beams] for beams in hypotheses], device=device)
    longest = int(lengths_BW.max()) if lengths_BW.numel() else 0
    padded = [[[*h, *[end_id] * (longest - len(h))] for h in beams] for beams in hypotheses]
    pieces_BWT = torch.tensor(padded, dtype=torch.long, device=device)
    ids_BW = torch.full_like(lengths_BW, begin_id)
    total_BW = torch.zeros(lengths_BW.shape, device=device)
    for position in range(longest):
        log_probs_BWV = step(ids_BW, cache).log_softmax(dim=-1, dtype=torch.float32)
        ids_BW = pieces_BWT[:, :, position]
        chosen_BW = log_probs_BWV.gather(-1, ids_BW.unsqueeze(-1)).squeeze(-1)
        total_BW += torch.where(position < lengths_BW, chosen_BW, 0)
    scores: list[list[float]] = total_BW.tolist()
    return scores

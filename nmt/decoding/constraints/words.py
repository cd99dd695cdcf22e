"""Banned words: texts that no output has, whatever pieces spell them.

A banned text is banned where it stands for itself: on a side where it begins or ends with a word character
(see `spelling`), another word character beside it makes it another word. "Hund" bans "Hund", "Hund." and
"Hund-Leine", and neither "Hunde" nor "hund". Hypotheses are followed through a deterministic automaton over
their characters, bytes of byte fallback included, so that no other cut into pieces slips through; a character
that is spelled in bytes counts as the end of a word. Hokamp and Liu (2017) and others ban sequences of
pieces; this bans what they write.

Shapes: B rows, W beams, V vocabulary, A states of the automaton, N sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nmt.decoding.beams import Batch
from nmt.decoding.constraints.spelling import Character, Kind, characters, is_word_character

Spelling = Sequence[str | int | None]


@dataclass(frozen=True, slots=True)
class _State:
    """What matters of the text so far."""

    # Banned texts that it may end in the middle of: their numbers, and bytes of them so far.
    inside: frozenset[tuple[int, int]]
    # It ends with a banned text, unless the word goes on.
    pending: bool
    # A word may begin.
    fresh: bool


@dataclass(frozen=True, slots=True)
class _Banned:
    data: bytes
    begins_as_word: bool
    ends_as_word: bool

    @classmethod
    def of(cls, text: str) -> "_Banned":
        return cls(text.encode(), is_word_character(text[0]), is_word_character(text[-1]))


_START = _State(frozenset(), pending=False, fresh=True)


class BannedWords:
    """The automaton of the banned texts over a vocabulary. State 0 is that of an empty hypothesis."""

    def __init__(self, texts: Sequence[str], spelling: Spelling, *, end_id: int) -> None:
        """
        Args:
            texts: not empty, without spaces around them.
            spelling: what each piece writes, as `Tokenizer.spell_target` says.
        """
        self.end_id = end_id
        self._banned = [_Banned.of(text) for text in dict.fromkeys(texts)]
        self._pieces = [[] if writing is None else characters(writing) for writing in spelling]
        self._starters: dict[bytes, list[int]] = {}
        for piece, own in enumerate(self._pieces):
            if own:
                self._starters.setdefault(own[0].data[:1], []).append(piece)
        self._not_words = [p for p, own in enumerate(self._pieces) if own and own[0].kind is not Kind.word]
        self._numbers: dict[_State, int] = {_START: 0}
        self._outside = {fresh: self._from_outside(fresh) for fresh in (False, True)}
        following, forbidden = zip(*self._explore(), strict=True)
        self.next_AV = torch.stack(following)
        self.forbidden_AV = torch.stack(forbidden)
        # Where nothing but END can follow.
        pending_A = torch.tensor([state.pending for state in self._numbers])
        self.forbidden_last_AV = self.forbidden_AV | pending_A[self.next_AV]

    def hold(self, pieces: Sequence[int]) -> bool:
        """Whether a text of these pieces alone has a banned word."""
        state = 0
        for piece in (*pieces, self.end_id):
            if self.forbidden_AV[state, piece]:
                return True
            state = int(self.next_AV[state, piece])
        return False

    def _explore(self) -> list[tuple[Tensor, Tensor]]:
        """For each state the states that follow and the pieces forbidden in it, [V] each."""
        rows: list[tuple[Tensor, Tensor]] = []
        # The dictionary grows as states are found.
        while len(rows) < len(self._numbers):
            state = list(self._numbers)[len(rows)]
            following_V, forbidden_V = (each.clone() for each in self._outside[state.fresh])
            first_bytes = {self._banned[text].data[done : done + 1] for text, done in state.inside}
            for piece in (piece for byte in first_bytes for piece in self._starters.get(byte, ())):
                following_V[piece], forbidden_V[piece] = self._follow(state, self._pieces[piece])
            if state.pending:
                forbidden_V[self._not_words] = True
                forbidden_V[self.end_id] = True
            rows.append((following_V, forbidden_V))
        return rows

    def _from_outside(self, fresh: bool) -> tuple[Tensor, Tensor]:
        state = _State(frozenset(), pending=False, fresh=fresh)
        following, forbidden = zip(*(self._follow(state, own) for own in self._pieces), strict=True)
        return torch.tensor(following), torch.tensor(forbidden)

    def _follow(self, state: _State, piece: list[Character]) -> tuple[int, bool]:
        """The number of the state after a piece, and whether a banned text is complete."""
        for character in piece:
            following = self._read(state, character)
            if following is None:
                return 0, True
            state = following
        return self._numbers.setdefault(state, len(self._numbers)), False

    def _read(self, state: _State, character: Character) -> _State | None:
        """The state after a character, None where a banned text is complete."""
        if state.pending and character.kind is not Kind.word:
            return None
        inside = {
            (text, done + len(character.data))
            for text, done in (*state.inside, *self._beginning(state))
            if self._banned[text].data.startswith(character.data, done)
        }
        complete = {(text, done) for text, done in inside if done == len(self._banned[text].data)}
        if any(not self._banned[text].ends_as_word for text, _ in complete):
            return None
        return _State(
            frozenset(inside - complete), pending=bool(complete), fresh=character.kind is not Kind.word
        )

    def _beginning(self, state: _State) -> list[tuple[int, int]]:
        return [(n, 0) for n, banned in enumerate(self._banned) if state.fresh or not banned.begins_as_word]


class WithoutWords:
    """Keeps hypotheses away from banned words."""

    def __init__(self, words: BannedWords, *, sentences: int, beams: int, device: torch.device) -> None:
        self.next_AV = words.next_AV.to(device)
        self.forbidden_AV = words.forbidden_AV.to(device)
        self.forbidden_last_AV = words.forbidden_last_AV.to(device)
        self.states_NW = torch.zeros(sentences, beams, dtype=torch.long, device=device)

    def restrict(self, allowed_BWV: Tensor, log_probs_BWV: Tensor, batch: Batch) -> None:
        """Forbid what completes a banned word, and what begins one where only END can follow."""
        states_BW = self.states_NW[batch.numbers_B].gather(1, batch.beams.origins_BW)
        states_BW = self.next_AV[states_BW, batch.beams.ids_BW].masked_fill(
            batch.positions_B[:, None] == 0, 0
        )
        self.states_NW[batch.numbers_B] = states_BW
        states_BW = states_BW[:, : allowed_BWV.shape[1]]
        last_B11 = (batch.positions_B + 2 >= batch.max_lengths_B)[:, None, None]
        forbidden_BWV = torch.where(last_B11, self.forbidden_last_AV[states_BW], self.forbidden_AV[states_BW])
        allowed_BWV.masked_fill_(forbidden_BWV, -torch.inf)

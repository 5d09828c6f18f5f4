"""The engine: replies that are written side by side, a token a step.

    join(prompt) ─ row ─┐
    join(prompt) ─ row ─┼─ step() ─ the next token of each row ─ ... ─ a row leaves when its reply ends
    leave(row) ─────────┘

Rows join and leave between steps (continuous batching), each with its own parameters, seed and length. What differs
between machines is the writer, which holds the model and the cache of keys and values: `cpu_compiled`, `cpu_engine`,
`torch_engine` and `gpu_engine`. Each row has its own random numbers, so a reply depends neither on its neighbours nor
on their number, except by rounding in torch and on a GPU: a matrix product of several rows may add its terms in
another order than that of one row.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from theta.errors import GenerationError
from theta.generate.settings import GenerationSettings


class Token(NamedTuple):
    """A token that was written."""

    id: int
    last: bool
    """Whether the reply ends with it, or because of it."""
    log_probability: float | None = None
    """By the model alone, before temperature and the other parameters; None unless it was asked for."""
    alternatives: tuple[tuple[int, float], ...] = ()
    """The likeliest ids in its place, with their log-probabilities."""


@dataclass(eq=False, slots=True)
class Row:
    """A reply that is being written."""

    number: int
    prompt: Sequence[int]
    settings: GenerationSettings
    noise: NDArray[np.float32]
    """Uniform in [0, 1), one for each token that the reply may have."""
    alternatives: int | None = None
    """How many alternatives to report for each token; None for no log-probabilities either."""
    reply: list[int] = field(default_factory=list)
    slot: int = -1
    """Where the writer keeps this row's keys and values."""

    @property
    def room(self) -> int:
        """The most tokens of the reply."""
        return len(self.noise)


class Written(NamedTuple):
    """What a writer chose for a row."""

    id: int
    log_probability: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


class Writer(Protocol):
    """What computes the next tokens."""

    most_rows: int
    """How many rows may be open at once."""
    positions: int
    """The most tokens that the model reads, prompt and reply together."""
    device: str
    dtype: str

    @property
    def is_alive(self) -> bool:
        """Whether it can still write; a writer in another process may have ended."""

    def open(self, rows: Sequence[Row]) -> None:
        """Take in the prompts of new rows."""

    def write(self, rows: Sequence[Row]) -> Mapping[int, Written]:
        """Return the next token of rows, by their numbers; a row that has just been opened may come a step later."""

    def close(self, row: Row) -> None:
        """Forget a row."""


class Engine:
    """Rows that join and leave a running batch without changing each other.

    It is used by one thread at a time.

    Args:
        writer: of this engine alone.
        end_id: the id that ends a reply; it is written too.
    """

    def __init__(self, writer: Writer, end_id: int) -> None:
        self._writer, self._end_id = writer, end_id
        self.most_rows, self.positions = writer.most_rows, writer.positions
        self._rows: dict[int, Row] = {}
        self._joining: list[Row] = []
        self._joined = 0

    @property
    def is_alive(self) -> bool:
        """Whether tokens can still be written."""
        return self._writer.is_alive

    @property
    def is_full(self) -> bool:
        """Whether no further row may join."""
        return len(self._rows) + len(self._joining) >= self.most_rows

    def join(
        self,
        ids: Sequence[int],
        settings: GenerationSettings,
        seed: int | None = None,
        alternatives: int | None = None,
    ) -> int:
        """Begin a reply to a prompt; return the number of its row.

        The reply has at most `settings.max_length` tokens, and ends where the model's positions do.

        Args:
            ids: at least one, and fewer than the model's positions.
            seed: the same one gives the same reply; None draws another each time.
            alternatives: how many to report for each token, with log-probabilities; None for neither.
        """
        assert 0 < len(ids) < self.positions, "prompts must be fitted to the model's positions"
        assert not self.is_full, "all rows are in use"
        room = min(settings.max_length, self.positions - len(ids))
        noise = np.random.default_rng(seed).random(room, dtype=np.float32)
        row = Row(self._joined, ids, settings, noise, alternatives)
        self._joined += 1
        self._joining.append(row)
        return row.number

    def step(self) -> Mapping[int, Token]:
        """Return the tokens that were written, by rows. A row leaves with its last token."""
        if self._joining:
            self._writer.open(self._joining)
            self._rows |= {row.number: row for row in self._joining}
            self._joining = []
        written = self._writer.write(list(self._rows.values()))
        return {number: self._token(self._rows[number], chosen) for number, chosen in written.items()}

    def _token(self, row: Row, chosen: Written) -> Token:
        row.reply.append(chosen.id)
        last = chosen.id == self._end_id or len(row.reply) == row.room
        if last:
            self.leave(row.number)
        return Token(chosen.id, last, chosen.log_probability, chosen.alternatives)

    def leave(self, number: int) -> None:
        """End a reply early; a row that has left already is no fault."""
        self._joining = [row for row in self._joining if row.number != number]
        row = self._rows.pop(number, None)
        if row is not None:
            self._writer.close(row)


@dataclass(frozen=True, slots=True)
class Request:
    """A reply to write."""

    ids: Sequence[int]
    settings: GenerationSettings
    seed: int | None = None


class SharedEngine:
    """An engine that several threads use at once: whoever waits for a token advances the rows of all.

    So replies that threads ask for at the same time are written side by side, without a thread of the engine's own.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = Lock()
        self._arrived: dict[int, deque[Token]] = {}

    def write(self, requests: Sequence[Request], rows: int) -> Iterator[tuple[int, Token]]:
        """Yield the tokens of all replies as they come, each with the place of its request.

        Args:
            rows: how many replies to write side by side at most. The longest prompts are first, so that few rows are
                idle at the end.

        Raises:
            GenerationError: the process that writes has ended.
        """
        waiting = sorted(range(len(requests)), key=lambda place: len(requests[place].ids))
        places: dict[int, int] = {}
        try:
            while waiting or places:
                with self._lock:
                    while waiting and len(places) < rows and not self.engine.is_full:
                        place = waiting.pop()
                        request = requests[place]
                        number = self.engine.join(request.ids, request.settings, request.seed)
                        places[number], self._arrived[number] = place, deque()
                    # Without a row of its own, this thread waits until one of another's is free.
                    if not any(self._arrived[number] for number in places):
                        self._advance()
                    arrived = [(number, self._take(number)) for number in places]
                for number, tokens in arrived:
                    for token in tokens:
                        yield places[number], token
                    if tokens and tokens[-1].last:
                        del places[number], self._arrived[number]
        finally:
            with self._lock:
                for number in places:
                    self.engine.leave(number)
                    del self._arrived[number]

    def _advance(self) -> None:
        try:
            step = self.engine.step()
        except EOFError as fault:
            raise GenerationError(f"{fault}; load the model again.") from None
        for number, token in step.items():
            self._arrived[number].append(token)

    def _take(self, number: int) -> list[Token]:
        tokens = list(self._arrived[number])
        self._arrived[number].clear()
        return tokens

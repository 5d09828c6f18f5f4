"""Many replies written side by side: a thread runs the engine, and coroutines read what it writes.

    requests ─ waiting (bounded) ─ rows of the running batch ─ tokens, to the coroutine of each reply

A reply joins the batch as soon as a row is free. It leaves when it ends, or when nobody reads it any more.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread

from theta.errors import GenerationError, ThetaError, reason
from theta.generate.engine import Engine, Token
from theta.generate.settings import GenerationSettings
from theta.serve.metrics import Metrics
from theta.text import counted

LOG = logging.getLogger("uvicorn.error")
"""The log of the server that runs the app."""

SECONDS_TO_END = 10

HAND_OVERS_PER_SECOND = 2000
"""To all replies together: each costs the event loop as much time as some ten tokens."""

ENDED = "The server has stopped writing replies; ask again later."


class BusyError(ThetaError):
    """As many replies wait as may."""

    def __init__(self, waiting: int, seconds: int) -> None:
        queue = counted(waiting, "reply", "replies")
        super().__init__(f"The server is busy ({queue} waiting); ask again in {counted(seconds, 'second')}.")
        self.seconds = seconds


class EngineError(ThetaError):
    """The engine failed while it wrote a reply."""


@dataclass(eq=False)
class Reply:
    """A reply that is being written, as the coroutine that asked for it sees it."""

    ids: Sequence[int]
    """Of the prompt."""
    settings: GenerationSettings
    seed: int | None
    alternatives: int | None
    """How many alternatives to report for each token; None for no log-probabilities either."""
    seconds_apart: float = 0.0
    """How long tokens are held back, to be handed over together; the first one and the last never are. Where many
    replies are written, it is longer."""
    asked: float = field(default_factory=time.perf_counter)
    left: bool = False
    """Whether nobody reads it any more."""
    _held: list[Token] = field(default_factory=list)
    _due: float = 0.0
    _arrived: list[Token] = field(default_factory=list)
    _fault: EngineError | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self, token: Token, now: float, replies: int) -> bool:
        """Keep a token until the next hand-over; return whether that is due. Called in the engine's thread.

        Args:
            token: the next one.
            now: the time, in seconds.
            replies: how many are written at once.
        """
        self._held.append(token)
        if not token.last and now < self._due:
            return False
        self._due = now + max(self.seconds_apart, replies / HAND_OVERS_PER_SECOND)
        return True

    def take(self) -> list[Token]:
        """Return the tokens that were held back. Called in the engine's thread."""
        held, self._held = self._held, []
        return held

    def arrive(self, tokens: list[Token], fault: EngineError | None) -> None:
        """Hand over tokens, and the fault that ended the reply after them; called in the event loop."""
        self._arrived += tokens
        self._fault = fault
        self._changed.set()

    async def tokens(self) -> AsyncIterator[list[Token]]:
        """Yield the tokens in groups of those that have come since the last group.

        Raises:
            EngineError: the engine failed.
        """
        ended = False
        while not ended:
            await self._changed.wait()
            self._changed.clear()
            arrived, self._arrived = self._arrived, []
            if arrived:
                ended = arrived[-1].last
                yield arrived
            if self._fault:
                raise self._fault


class Batching:
    """Runs an engine in a thread of its own, from `start` to `close`.

    Args:
        engine: used by the thread alone.
        metrics: counts what happens.
        most_waiting: how many replies may wait for a row.
    """

    def __init__(self, engine: Engine, metrics: Metrics, most_waiting: int) -> None:
        self._engine, self._metrics, self._most_waiting = engine, metrics, most_waiting
        self._waiting: deque[Reply] = deque()
        self._rows: dict[int, Reply] = {}
        self._changed = Condition()
        self._closing, self._ended = False, ENDED
        self._mean_seconds = 1.0
        self._thread = Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to write; called in the event loop that the replies are read in."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """End all replies, and the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(SECONDS_TO_END)  # a step that hangs must not keep the server from ending

    @property
    def is_alive(self) -> bool:
        """Whether replies can be written."""
        return self._thread.is_alive() and self._engine.is_alive

    def submit(self, replies: Sequence[Reply]) -> None:
        """Queue the replies of one request.

        Raises:
            BusyError: they are more than may wait now; none of them is queued.
            EngineError: the engine has stopped.
            GenerationError: they are more than may ever wait.
        """
        most = self._engine.most_rows + self._most_waiting
        if len(replies) > most:
            raise GenerationError(
                f"The request asks for {len(replies)} replies, more than the {most} that it may; ask for fewer."
            )
        with self._changed:
            if self._closing:
                raise EngineError(self._ended)
            self._waiting = deque(reply for reply in self._waiting if not reply.left)
            places = most - len(self._rows)
            if len(self._waiting) + len(replies) > places:
                seconds = self._mean_seconds * (1 + len(self._waiting) / self._engine.most_rows)
                raise BusyError(len(self._waiting), min(max(round(seconds), 1), 60))
            self._waiting.extend(replies)
            self._changed.notify()

    def leave(self, replies: Sequence[Reply]) -> None:
        """End replies that nobody reads any more; those that have ended already are no fault."""
        for reply in replies:
            reply.left = True
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        try:
            while self._is_to_go_on():
                while (reply := self._next()) is not None:
                    self._join(reply)
                if self._rows:
                    self._step()
        except EOFError as fault:
            LOG.error("%s; restart the server.", fault)
            self._ended = f"{fault}; the server must be restarted."
        finally:  # also after a fault of the engine that nothing can go on from
            with self._changed:
                self._closing = True
                self._deliver((*self._rows.values(), *self._waiting), EngineError(self._ended))
                self._metrics.running.set(0)

    def _is_to_go_on(self) -> bool:
        """Wait until there is anything to do, and free the rows that nobody reads; return False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._rows or self._waiting)
            for row in [row for row, reply in self._rows.items() if reply.left]:
                self._engine.leave(row)
                del self._rows[row]
            self._metrics.running.set(len(self._rows))
            return not self._closing

    def _next(self) -> Reply | None:
        """Return the next reply that can join."""
        with self._changed:
            reply = None
            while self._waiting and reply is None and not self._engine.is_full:
                first = self._waiting.popleft()
                reply = None if first.left else first
            self._metrics.waiting.set(len(self._waiting))
            return reply

    def _join(self, reply: Reply) -> None:
        try:
            row = self._engine.join(reply.ids, reply.settings, reply.seed, reply.alternatives)
        except Exception as fault:
            self._deliver([reply], EngineError(f"The reply cannot be begun ({reason(fault)}); ask again later."))
        else:
            self._rows[row] = reply

    def _step(self) -> None:
        self._metrics.running.set(len(self._rows))
        self._metrics.batch.observe(len(self._rows))
        try:
            written = self._engine.step()
        except EOFError:  # the process that writes has ended, so nothing can go on
            raise
        except Exception as fault:
            self._fail(EngineError(f"The reply cannot go on ({reason(fault)}); ask again later."))
            return
        now, replies, due = time.perf_counter(), len(self._rows), []
        for row, token in written.items():
            reply = self._rows.get(row)
            if reply is None:
                continue
            if reply.hold(token, now, replies):
                due.append(reply)
            if token.last:
                del self._rows[row]
                self._mean_seconds += 0.1 * (now - reply.asked - self._mean_seconds)
        self._deliver(due)
        self._metrics.running.set(len(self._rows))

    def _fail(self, fault: EngineError) -> None:
        """End the running replies with a fault."""
        failed, self._rows = self._rows, {}
        for row in failed:
            self._engine.leave(row)
        self._deliver(list(failed.values()), fault)

    def _deliver(self, replies: Sequence[Reply], fault: EngineError | None = None) -> None:
        # One call for all rows of a step: waking the event loop costs more than the hand-over itself.
        if replies and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_hand_over, [(reply, reply.take()) for reply in replies], fault)


def _hand_over(tokens: Sequence[tuple[Reply, list[Token]]], fault: EngineError | None) -> None:
    for reply, arrived in tokens:
        reply.arrive(arrived, fault)

"""The choices of one request: each is a reply that is being written, as text with its tokens."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from theta.generate.engine import Token
from theta.generate.reply_text import ReplyText
from theta.generate.settings import GenerationSettings
from theta.serve.batching import Batching, Reply
from theta.tokens.vocabulary import Vocabulary

SECONDS_APART = 0.02
"""How often a stream gets what was written: each event costs more than a token, and nobody reads faster."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request asks the model to go on with."""

    ids: Sequence[int]
    settings: GenerationSettings
    alternatives: int | None


@dataclass(frozen=True, slots=True)
class Piece:
    """More text of a choice."""

    index: int
    text: str
    tokens: list[tuple[Token, int]]
    """The tokens of the text, each with the number of characters before it."""
    finish: str | None
    """Why the choice ends here: "stop" (by itself, or at a stop sequence) or "length"; None if it goes on."""


@dataclass
class Choice:
    """A reply and its text so far."""

    index: int
    reply: Reply
    text: ReplyText
    end_id: int
    singly: bool
    """Whether tokens are decoded one by one, which tells the place of each in the text."""
    written: int = 0
    """Tokens so far, without the end token."""
    _held: list[tuple[Token, int, int]] = field(default_factory=list)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the text as it becomes certain; the last piece has a `finish`."""
        async for tokens in self.reply.tokens():
            groups = [[token] for token in tokens] if self.singly else [tokens]
            text = "".join(self._add(group) for group in groups if not self.text.stopped)
            finish = None
            if self.text.stopped:
                finish = "stop"
            elif tokens[-1].last:
                text += self.text.end()
                finish = "stop" if self.text.stopped or tokens[-1].id == self.end_id else "length"
            if text or finish:
                yield Piece(self.index, text, self._released(bool(finish)), finish)
            if finish:
                self.reply.left = True  # after a stop sequence the engine would go on
                return

    def _add(self, tokens: Sequence[Token]) -> str:
        ids = [token.id for token in tokens if token.id != self.end_id]
        if not ids:
            return ""
        self.written += len(ids)
        before = self.text.certain
        text = self.text.add(*ids)
        if self.reply.alternatives is not None:
            self._held += [(token, before, self.text.certain) for token in tokens]
        return text

    def _released(self, ended: bool) -> list[tuple[Token, int]]:
        """Return the tokens whose text was released, and at the end of a whole reply all."""
        limit = self.text.released
        ready = [one for one in self._held if one[2] <= limit or (ended and not self.text.stopped)]
        self._held = self._held[len(ready) :]
        return [(token, before) for token, before, _ in ready]


class Choices:
    """All choices of a request, submitted together; leaving the block ends those that are still being written."""

    def __init__(self, batching: Batching, vocabulary: Vocabulary) -> None:
        self._batching, self._vocabulary = batching, vocabulary
        self.all: list[Choice] = []

    def submit(
        self, prompts: Sequence[Prompt], count: int, seed: int | None, stops: Sequence[str], *, whole: bool
    ) -> None:
        """Queue `count` replies to each prompt; those to one prompt have the seeds seed, seed + 1, ...

        Args:
            prompts: of one request.
            count: replies to each.
            seed: of the first reply; None draws others each time.
            stops: texts that end a reply.
            whole: whether the replies are wanted whole, so that their tokens may come all at once.

        Raises:
            BusyError: they are more than may wait.
        """
        # A reply that may reach a stop sequence is looked at while it is written, or the engine would go on.
        apart = math.inf if whole and not stops else SECONDS_APART
        seeds = [None if seed is None else (seed + place) % 2**63 for place in range(count)]
        replies = [
            Reply(prompt.ids, prompt.settings, own, prompt.alternatives, apart) for prompt in prompts for own in seeds
        ]
        self._batching.submit(replies)
        self.all = [
            Choice(
                index,
                reply,
                ReplyText(self._vocabulary, stops),
                self._vocabulary.end_id,
                singly=bool(stops) or reply.alternatives is not None,
            )
            for index, reply in enumerate(replies)
        ]

    def leave(self) -> None:
        """End the choices that are still being written."""
        self._batching.leave([choice.reply for choice in self.all])

    @property
    def written(self) -> int:
        """Tokens of all choices so far."""
        return sum(choice.written for choice in self.all)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the pieces of all choices as they come.

        Raises:
            EngineError: the engine failed.
        """
        if len(self.all) == 1:
            async for piece in self.all[0].pieces():
                yield piece
            return
        queue: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        tasks = [asyncio.create_task(_collect(choice, queue)) for choice in self.all]
        open_choices = len(tasks)
        try:
            while open_choices:
                arrived = await queue.get()
                if isinstance(arrived, Exception):
                    raise arrived
                open_choices -= arrived.finish is not None
                yield arrived
        finally:
            for task in tasks:
                task.cancel()


async def _collect(choice: Choice, queue: "asyncio.Queue[Piece | Exception]") -> None:
    try:
        async for piece in choice.pieces():
            queue.put_nowait(piece)
    except Exception as fault:
        queue.put_nowait(fault)

"""`theta chat`: a conversation in the terminal or through a pipe; replies appear as they are written."""

import re
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console

from theta.cli.chat_commands import obey
from theta.cli.console import note, say
from theta.cli.generation_options import FINAL, Dtype, Model, Seed, System, load_model, with_generation_parameters
from theta.cli.replies import Interrupts, show
from theta.cli.user_input import piped_messages, typed_messages

if TYPE_CHECKING:
    from theta.conversation.messages import Message
    from theta.generate.assistant import ThetaModel
    from theta.generate.settings import Parameters

HINT = "Ctrl-D or /bye leaves, /help lists the commands."

LEAVE = ("/bye", "/quit", "/exit", "exit", "quit")

COMMAND = re.compile(r"/(\w+|\?)?(?=\s|$)")
"""A word after a slash; /etc/passwd at the beginning of a question is not one."""


@with_generation_parameters
def chat(
    parameters: "Parameters", model: Model = FINAL, dtype: Dtype = "auto", seed: Seed = None, system: System = None
) -> None:
    """Talk to the model, in the terminal or through a pipe with a message a line."""
    console = Console(highlight=False)
    loaded = load_model(model, dtype=dtype)
    interactive = sys.stdin.isatty() and console.is_terminal
    if interactive:
        say(console, f"{model}. {HINT}\n", style="dim")
    interrupts = Interrupts()
    messages = typed_messages(console, "you> ", HINT) if interactive else piped_messages()
    with interrupts.caught() if interactive else nullcontext():
        converse(Chat(loaded, parameters, seed, system), messages, console, interrupts)


@dataclass
class Chat:
    """A conversation with a model, and what its next reply depends on."""

    model: "ThetaModel"
    parameters: "Parameters"
    seed: int | None
    """Seed of the first reply; each later reply adds 1. None draws a new seed."""
    system: str | None
    exchanges: list[tuple[str, str]] = field(default_factory=list)
    """Questions and replies."""
    replies: int = 0
    """Replies so far, those that were forgotten included."""
    speed: "Speed | None" = None
    """Of the last reply."""
    shortened: bool = False
    """Whether it was said that the oldest exchanges are left out."""

    def messages(self) -> "list[Message]":
        """Return the conversation so far, with its system message."""
        from theta.conversation.messages import Message

        opening = [Message("system", self.system)] if self.system else []
        turns = [[Message("user", question), Message("assistant", reply)] for question, reply in self.exchanges]
        return [*opening, *(message for turn in turns for message in turn)]


@dataclass
class Speed:
    """When the pieces of a reply came."""

    begun: float
    first: float = 0.0
    last: float = 0.0

    def noted(self, pieces: Iterator[str]) -> Generator[str]:
        """Yield the pieces, and note when the first and the last one came."""
        for piece in pieces:
            self.last = time.perf_counter()
            self.first = self.first or self.last
            yield piece


def converse(chat: Chat, messages: Iterator[str], console: Console, interrupts: Interrupts) -> None:
    """Answer message after message until one of `LEAVE` or their end; the conversation so far is the context."""
    from theta.errors import ThetaError

    for message in messages:
        if message.lower() in LEAVE:
            return
        interrupts.clear()
        try:
            question: str | None = message
            if found := COMMAND.match(message):
                question = obey(chat, found[0], message[found.end() :].strip(), console)
            if question is not None:
                answer(chat, question, console, interrupts)
        except ThetaError as fault:
            say(Console(stderr=True, highlight=False), f"error: {fault}", style="red")


def answer(chat: Chat, question: str, console: Console, interrupts: Interrupts) -> None:
    """Show the reply to a question, and remember both."""
    from theta.conversation.messages import Message

    seed = None if chat.seed is None else chat.seed + chat.replies
    speed = Speed(time.perf_counter())
    asked = [*chat.messages(), Message("user", question)]
    if not chat.shortened and chat.model.fitted(asked, **chat.parameters).left_out:
        chat.shortened = True
        tokens = chat.model.conversation_tokens
        note(console, f"(From here on the oldest exchanges are left out: the model uses {tokens} tokens.)")
    pieces = chat.model.stream(asked, seed=seed, **chat.parameters)
    if console.is_terminal:
        console.print()
    with closing(speed.noted(pieces)) as noted:
        reply = show(console, noted, interrupts, name="theta> ")
    if console.is_terminal:
        console.print()
    chat.replies += 1
    # A reply that was stopped before its first word leaves no trace.
    if reply.strip():
        chat.exchanges.append((question, reply))
        chat.speed = speed

"""`theta chat`: a conversation in the terminal or through a pipe; replies appear as they are written."""

import json
import re
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from theta.cli.console import say
from theta.cli.generation_options import (
    FINAL,
    Dtype,
    Model,
    Seed,
    System,
    check_seed,
    load_model,
    with_generation_parameters,
)
from theta.cli.replies import Interrupts, show
from theta.cli.user_input import piped_messages, typed_messages
from theta.text import counted

if TYPE_CHECKING:
    from theta.conversation.messages import Message
    from theta.generate.assistant import ThetaModel
    from theta.generate.settings import Parameters

HELP = """\
/reset             forget the conversation
/undo              forget the last question and its reply
/retry             write another reply to the last question
/system TEXT       set the system message; without TEXT show it, with - remove it
/set NAME VALUE    set a parameter, such as /set temperature 0.6; without them show all
/save FILE         add the conversation to FILE, JSON Lines that data.path reads
/stats             speed of the last reply, length of the conversation
/help              this list
/bye               leave, as exit and Ctrl-D do
Ctrl-C stops a reply and clears a line. Alt-Enter begins a new line; so does Enter after \"\"\" until the next ones."""
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
            if found := COMMAND.match(message):
                obey(chat, found[0], message[found.end() :].strip(), console, interrupts)
            else:
                answer(chat, message, console, interrupts)
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
        say(console, f"(From here on the oldest exchanges are left out: the model uses {tokens} tokens.)", style="dim")
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


def obey(chat: Chat, command: str, rest: str, console: Console, interrupts: Interrupts) -> None:
    """Carry out a command of `HELP`, or say that there is none of this name."""
    match command:
        case "/help" | "/?":
            say(console, HELP)
        case "/reset" | "/clear":
            chat.exchanges.clear()
            chat.shortened = False
            say(console, "The conversation is forgotten.", style="dim")
        case "/undo" | "/retry" if not chat.exchanges:
            say(console, "There is no question yet.", style="dim")
        case "/undo":
            question, _ = chat.exchanges.pop()
            chat.speed = None
            say(console, f"Forgotten: {question}", style="dim")
        case "/retry":
            answer(chat, chat.exchanges.pop()[0], console, interrupts)
        case "/system":
            set_system(chat, rest)
            say(console, f"System message: {chat.system or 'none'}", style="dim")
        case "/set":
            set_parameter(chat, *rest.partition(" ")[::2])
            say(console, shown_parameters(chat), style="dim")
        case "/save":
            say(console, save(chat, rest), style="dim")
        case "/stats":
            say(console, stats(chat), style="dim")
        case _:
            say(console, f"There is no command {command}; /help lists them.", style="dim")


def set_system(chat: Chat, text: str) -> None:
    """Set the system message, or remove it with "-"; an empty text changes nothing."""
    if text:
        chat.system = None if text == "-" else text


def set_parameter(chat: Chat, name: str, value: str) -> None:
    """Set a generation parameter, or the seed; an empty name changes nothing.

    Raises:
        SettingsError: there is no such parameter, or the value is out of its range.
    """
    from theta.errors import SettingsError
    from theta.generate.settings import GenerationSettings

    if not name:
        return
    try:
        number = json.loads(value)
    except ValueError:
        raise SettingsError(f"{name} is {value!r}, expected a number, as in /set temperature 0.6.") from None
    if name == "seed":
        check_seed(number)
        chat.seed, chat.replies = number, 0
    else:
        GenerationSettings.checked(**{name: number})
        chat.parameters = {**chat.parameters, name: number}  # type: ignore[misc] # a name of Parameters


def shown_parameters(chat: Chat) -> str:
    """Return the parameters of the next reply, a line each."""
    values = {**chat.model.settings.replaced(**chat.parameters).model_dump(), "seed": chat.seed}
    return "\n".join(f"{name:<22}{'random' if value is None else value}" for name, value in values.items())


def save(chat: Chat, name: str) -> str:
    """Append the conversation to a file of JSON Lines, and say so.

    Raises:
        DataError: there is nothing to save, or the file is not named as `data.path` expects it.
        StorageError: the file cannot be written.
    """
    from theta.errors import DataError
    from theta.files import append_json_line

    file = Path(name).expanduser()
    if file.suffix != ".jsonl":
        raise DataError(f"/save {name}: name a file that ends in .jsonl, such as /save Datasets/mine/chat.jsonl")
    if not chat.exchanges:
        raise DataError("/save: there is no reply yet that could be saved.")
    append_json_line(file, {"messages": [{"role": each.role, "content": each.content} for each in chat.messages()]})
    return f"Added {len(chat.exchanges)} question(s) with their replies to {file}; data.path can name it."


def stats(chat: Chat) -> str:
    """Describe the speed of the last reply and the length of the conversation."""
    from theta.conversation.template import render_prompt

    vocabulary = chat.model.vocabulary
    tokens = len(vocabulary.encode(list(render_prompt(chat.messages())))[0])
    lines = [f"The conversation has {counted(tokens, 'token')}; the model uses {chat.model.conversation_tokens:,}."]
    if chat.speed and chat.exchanges:
        written = len(vocabulary.tokenizer.encode(chat.exchanges[-1][1]).ids)
        seconds = chat.speed.last - chat.speed.first
        rate = f", then {(written - 1) / seconds:,.0f} tokens a second" if seconds and written > 1 else ""
        first = 1000 * (chat.speed.first - chat.speed.begun)
        lines.append(f"The last reply: {counted(written, 'token')}, the first after {first:,.0f} ms{rate}.")
    return "\n".join(lines)

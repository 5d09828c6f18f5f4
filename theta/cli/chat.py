"""`theta chat`: a conversation in the terminal or through a pipe; replies appear as they are written."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console

from theta.cli.generation_options import FINAL, Model, Seed, System, load_model, with_generation_parameters
from theta.cli.text import visible

if TYPE_CHECKING:
    from theta.generate.assistant import ThetaModel
    from theta.generate.settings import Parameters

HELP = """\
/reset   forget the conversation so far
/help    this list
/quit    leave, as Ctrl-D does; Ctrl-C stops a reply that is being written"""


@with_generation_parameters
def chat(parameters: "Parameters", model: Model = FINAL, seed: Seed = None, system: System = None) -> None:
    """Talk to the model, in the terminal or through a pipe with a message a line."""
    converse(load_model(model), system=system, seed=seed, parameters=parameters)


def converse(model: "ThetaModel", *, system: str | None, seed: int | None, parameters: "Parameters") -> None:
    """Answer line after line until /quit or the end of the input; the conversation so far is the context.

    Args:
        system: the system message, kept by /reset.
        seed: seed of the first reply; each later reply adds 1. None draws a new seed.
        parameters: of `ThetaModel.stream`.
    """
    from theta.conversation.messages import Message
    from theta.errors import GenerationError

    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    opening = [Message("system", system)] if system else []
    messages = list(opening)
    if sys.stdin.isatty():
        console.print("[dim]/help lists the commands, /quit leaves.[/]")
    for turn, line in enumerate(_lines(console)):
        if line == "/quit":
            return
        if line == "/reset":
            messages = list(opening)
        elif line == "/help":
            console.print(HELP)
        else:
            question = Message("user", line)
            try:
                pieces = model.stream([*messages, question], seed=None if seed is None else seed + turn, **parameters)
            except GenerationError as fault:
                errors.print(visible(f"error: {fault}"), style="red", markup=False, soft_wrap=True)
                continue
            reply = show(console, pieces)
            # A reply that was stopped before its first word leaves no trace.
            messages += [question, Message("assistant", reply)] if reply.strip() else []


def _lines(console: Console) -> Iterator[str]:
    """Yield the user's lines except blank ones; Ctrl-D and Ctrl-C end the input."""
    with suppress(ImportError):
        import readline  # noqa: F401 - gives input() its arrow keys and history
    mark = "you> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(mark).strip()
        except (EOFError, KeyboardInterrupt):
            if mark:
                console.print()
            return
        except UnicodeDecodeError:
            from theta.errors import GenerationError

            raise GenerationError("The input is not valid UTF-8 text.") from None
        if line:
            yield line


def show(console: Console, pieces: Iterable[str]) -> str:
    """Write the pieces as they arrive, until Ctrl-C stops them; return what was written."""
    shown: list[str] = []
    try:
        for piece in pieces:
            console.out(visible(piece), end="", highlight=False)
            shown.append(piece)
    except KeyboardInterrupt:
        console.print(" [dim](stopped)[/]", end="")
    console.print()
    return "".join(shown)

"""`theta generate`: the reply to one question."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from theta.cli.generation_options import FINAL, Dtype, Model, Seed, System, load_model, with_generation_parameters
from theta.cli.replies import show
from theta.cli.user_input import read_all

if TYPE_CHECKING:
    from theta.generate.settings import Parameters

PIPE = "-"


@with_generation_parameters
def generate(
    words: Annotated[
        list[str] | None, typer.Argument(help="The question; - stands for standard input, and so does nothing at all.")
    ] = None,
    parameters: "Parameters | None" = None,
    model: Model = FINAL,
    dtype: Dtype = "auto",
    seed: Seed = None,
    system: System = None,
) -> None:
    """Print the reply to one question. Omitted parameters take the values that the model recommends."""
    # NumPy's threads wait for each other by spinning, which costs a small model more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from theta.conversation.messages import Message
    from theta.generate.prompt import to_messages

    opening = [Message("system", system)] if system else []
    messages = to_messages([*opening, Message("user", question(words or []))])
    loaded = load_model(model, dtype=dtype, soon=True)
    show(Console(highlight=False), loaded.stream(messages, seed=seed, **(parameters or {})))


def question(words: list[str]) -> str:
    """Return the words as one question, with the standard input in the place of "-" or of no words at all.

    Raises:
        GenerationError: there are no words, and nothing is piped into the program.
    """
    from theta.errors import GenerationError

    if not words and sys.stdin.isatty():
        raise GenerationError('There is no question; write one after the command, as in theta generate "Who are you?".')
    return " ".join(read_all().strip() if word == PIPE else word for word in words or [PIPE])

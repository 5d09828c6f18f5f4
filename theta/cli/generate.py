"""`theta generate`: the reply to one question."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from theta.cli.generation_options import FINAL, Model, Seed, System, load_model, with_generation_parameters
from theta.cli.text import visible

if TYPE_CHECKING:
    from theta.generate.settings import Parameters


@with_generation_parameters
def generate(
    prompt: Annotated[str, typer.Argument(help="The question.")],
    parameters: "Parameters",
    model: Model = FINAL,
    seed: Seed = None,
    system: System = None,
) -> None:
    """Print the reply to one question. Omitted parameters take the values that the model recommends."""
    # NumPy's threads wait for each other by spinning, which costs a small model more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from theta.conversation.messages import Message

    opening = [Message("system", system)] if system else []
    for piece in load_model(model, soon=True).stream([*opening, Message("user", prompt)], seed=seed, **parameters):
        typer.echo(visible(piece), nl=False)
    typer.echo()

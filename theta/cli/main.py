"""The user's own commands: theta models, plan, generate, ... Heavy imports wait until a command needs them."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from theta.cli import errors

if TYPE_CHECKING:
    from theta.generate.assistant import ThetaModel
    from theta.generate.settings import Parameters

FINAL = Path("models/theta_final")

app = typer.Typer(
    help="Choose a base, talk to a fine-tuned model, and release it. The pipeline that makes it is run by `dvc repro`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# The ranges are checked by theta.generate.settings, in the words that params.yaml and Python callers get.
Model = Annotated[Path, typer.Option(help="Folder of the model.")]
MaxLength = Annotated[int | None, typer.Option(help="Maximum tokens to generate, 1 to 1024.")]
Temperature = Annotated[float | None, typer.Option(help="Randomness, 0.1 to 2.0.")]
TopP = Annotated[float | None, typer.Option(help="Nucleus sampling threshold, 0.0 to 1.0.")]
TopK = Annotated[int | None, typer.Option(help="Tokens to choose from, 1 to 100.")]
RepetitionPenalty = Annotated[float | None, typer.Option(help="Penalty for repetition, 1.0 to 2.0.")]
NoRepeatNgramSize = Annotated[int | None, typer.Option(help="No sequence of this many tokens twice, 0 (off) to 5.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same reply.")]
System = Annotated[str | None, typer.Option(help="System message that opens the conversation.")]


def main() -> None:
    """The entry point of `theta`."""
    errors.run(app)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The question.")],
    model: Model = FINAL,
    max_length: MaxLength = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    repetition_penalty: RepetitionPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    seed: Seed = None,
    system: System = None,
) -> None:
    """Print the reply to one question. Parameters left out are those the model recommends."""
    from theta.conversation.messages import Message

    parameters = _checked(
        max_length=max_length,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
    )
    opening = [Message("system", system)] if system else []
    pieces = _load(model).stream([*opening, Message("user", prompt)], seed=seed, **parameters)
    for piece in pieces:
        typer.echo(piece, nl=False)
    typer.echo()


@app.command()
def chat(
    model: Model = FINAL,
    max_length: MaxLength = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    repetition_penalty: RepetitionPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    seed: Seed = None,
    system: System = None,
) -> None:
    """Talk to the model, in the terminal or through a pipe with a message a line."""
    from theta.cli.converse import converse

    parameters = _checked(
        max_length=max_length,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
    )
    converse(_load(model), system=system, seed=seed, parameters=parameters)


Vram = Annotated[float | None, typer.Option(help="Memory of the card in GiB; without it, that of the card at hand.")]


@app.command()
def models(vram: Vram = None) -> None:
    """List the bases with the memory that they need, and the one recommended for the card."""
    from theta.cli.tables import print_models
    from theta.memory.gpu import card_of

    print_models(card_of(vram), releases=FINAL.parent)


@app.command()
def plan(
    model: Annotated[
        str | None, typer.Option(help="gpt2, ..., scratch:PRESET or a folder; without it, GPT-2's four sizes.")
    ] = None,
    vram: Vram = None,
    tokens_per_step: Annotated[int, typer.Option(help="As train.tokens_per_step.")] = 16_384,
    max_length: Annotated[int, typer.Option(help="As tokenizer.max_length.")] = 512,
    probe: Annotated[bool, typer.Option("--probe", help="Also run the chosen plan on the GPU and measure it.")] = False,
    probe_all: Annotated[bool, typer.Option("--probe-all", help="Run and measure every plan that fits.")] = False,
) -> None:
    """Show what each plan of train.memory needs, which one auto takes, and why."""
    from theta.cli.tables import Probed, print_plans
    from theta.machine.process import prepare_gpu
    from theta.memory.gpu import card_of

    probed: Probed = "all" if probe_all else "chosen" if probe else "nothing"
    if probed != "nothing":
        prepare_gpu()  # before torch is imported
    print_plans(model, card_of(vram), tokens_per_step, max_length, probed)


@app.command()
def release(
    model: Model = FINAL,
    output: Annotated[Path, typer.Option(help="Folder of the releases.")] = Path("models"),
) -> None:
    """Copy the model to models/theta_enhanced_YYYYMMDD/theta_final, which a next run may start from."""
    from theta.export.release import release as copy

    copied = copy(model, output, date.today())
    typer.echo(
        f"{copied}\nTo go on from it: model.base: {copied.as_posix()}. To share it: dvc add {copied.parent.as_posix()}"
    )


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option(help="File to write; without it, standard output.")] = None,
) -> None:
    """The JSON schema of params.yaml, for editors."""
    import json

    from theta import files, settings
    from theta.params import SECTIONS

    value = settings.schema(SECTIONS)
    if output is None:
        typer.echo(json.dumps(value, indent=2, sort_keys=True))
    else:
        files.write_json(output, value)


def _checked(**parameters: "Unpack[Parameters]") -> "Parameters":
    from theta.generate.settings import GenerationSettings

    GenerationSettings.checked(**parameters)
    return parameters


def _load(folder: Path) -> "ThetaModel":
    from theta.generate.folder import check

    check(folder)  # before the seconds that the next lines take
    from theta.generate.assistant import ThetaModel

    return ThetaModel.load(folder)

"""`theta`: the user's commands, a file each. Heavy imports wait until a command needs them."""

from typing import Annotated

import typer

from theta.cli.chat import chat
from theta.cli.compare import compare
from theta.cli.export import export
from theta.cli.finetune import finetune
from theta.cli.generate import generate
from theta.cli.inspect import inspect
from theta.cli.models import models
from theta.cli.plan import plan
from theta.cli.publish import publish
from theta.cli.release import release
from theta.cli.releases import releases
from theta.cli.schema import schema
from theta.cli.serve import serve
from theta.cli.sweep import sweep
from theta.text import help_of

app = typer.Typer(
    help="Choose a base, look at your data, talk to a fine-tuned model, and release it. `dvc repro` runs the pipeline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    models,
    plan,
    inspect,
    generate,
    chat,
    serve,
    finetune,
    sweep,
    compare,
    export,
    release,
    releases,
    publish,
    schema,
):
    app.command(help=help_of(command.__doc__))(command)


def print_version(wanted: bool) -> None:
    """Print the version of Theta and exit."""
    if wanted:
        import theta

        typer.echo(theta.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Handle the options that come before the name of a command."""

"""`python -m stages NAME`: the command of each stage in dvc.yaml."""

import sys
from importlib import import_module

from theta.cli.errors import one_line, run
from theta.text import help_of

STAGES = ("fetch", "prepare", "tokenize", "train", "evaluate", "export", "report")

with one_line():
    import typer

    # Importing the other stages too would take longer than a small one runs.
    asked = [name for name in STAGES if sys.argv[1:2] == [name]] or STAGES
    commands = [getattr(import_module(f"stages.{name}"), name) for name in asked]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The stages of the pipeline, in order.",
)
app.callback()(lambda: None)  # without it, an app of one command takes no name
for command in commands:
    app.command(help=help_of(command.__doc__))(command)

if __name__ == "__main__":
    run(app)

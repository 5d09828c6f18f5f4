"""`python -m stages NAME`: the command of each stage in dvc.yaml."""

from theta.cli.errors import one_line, run

with one_line():
    import typer

    from stages.evaluate import evaluate
    from stages.export import export
    from stages.fetch import fetch
    from stages.prepare import prepare
    from stages.report import report
    from stages.tokenize import tokenize
    from stages.train import train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The stages of the pipeline, in order.",
)
for stage in (fetch, prepare, tokenize, train, evaluate, export, report):
    app.command()(stage)

if __name__ == "__main__":
    run(app)

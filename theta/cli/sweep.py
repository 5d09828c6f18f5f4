"""`theta sweep`: try combinations of settings as experiments of DVC, and stop the hopeless early."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theta.text import counted

if TYPE_CHECKING:
    from theta.experiments.sweep import Result

BAR = 20
PLOTS = Path("dvc_plots")
"""Where DVC writes its plots, too; git ignores it."""


def sweep(
    settings: Annotated[list[str], typer.Argument(help="Settings with their values, such as train.epochs=2,4.")],
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    early: Annotated[
        bool, typer.Option("--early/--full", help="Stop hopeless combinations early, or run all in full.")
    ] = True,
    by: Annotated[
        str | None,
        typer.Option(help="Figure to rank by, such as evaluate.replies.chrf; of a loss, the lowest is best."),
    ] = None,
) -> None:
    """Run the pipeline with every combination of the settings, in DVC's queue, and show which is best.

    After Ctrl-C or a kill, the same command goes on: finished runs are kept. `dvc exp apply NAME` takes a result into
    the workspace.
    """
    from theta.experiments.sweep import chart, criterion_of, grid, plot_name, rounds, sweep
    from theta.project.tools import find_root

    root, combinations = find_root(Path()), grid(settings)
    most = len(rounds(len(combinations), early=early))
    typer.echo(f"{counted(len(combinations), 'combination')}; at most {counted(most, 'round')}")
    results: list[Result] = []
    shown: Mapping[str, str] = {}
    try:
        for state in sweep(root, combinations, jobs=jobs, early=early, criterion=by):
            if isinstance(state, list):  # the end of a round: the runs that stopped early follow those that went on
                went_on = [each.run.combination for each in state]
                results = state + [each for each in results if each.run.combination not in went_on]
            elif state != shown:
                _progress(state)
                shown = state
    except KeyboardInterrupt:
        typer.echo("Stopped; the same command goes on.", err=True)
        raise
    criterion = criterion_of(results, by)
    _table(results, criterion)
    plot = root / PLOTS / plot_name(combinations)
    chart(results, criterion).save(plot)
    typer.echo(f"Plot: {plot.relative_to(Path.cwd()) if plot.is_relative_to(Path.cwd()) else plot}")
    best = results[0]
    if best.metrics is not None:
        typer.echo(f"Best: {best.run.name}. To apply it to the workspace: dvc exp apply {best.run.name}")


def _progress(states: Mapping[str, str]) -> None:
    counts = {state: list(states.values()).count(state) for state in ("Success", "Failed", "Running", "Queued")}
    words = {"Success": "done", "Failed": "failed", "Running": "running", "Queued": "waiting"}
    line = ", ".join(f"{count} {words[state]}" for state, count in counts.items() if count)
    running = [name for name, state in states.items() if state == "Running"]
    typer.echo(f"  {line}" + (f": dvc queue logs --follow {running[0]}" if running else ""))


def _table(results: "Sequence[Result]", criterion: str) -> None:
    """Print a row for each run, the best first, with a bar for the figure that ranks them."""
    from theta.cli.console import show
    from theta.experiments.sweep import EPOCHS, figure

    values = [figure(each, criterion) for each in results]
    most = max((value for value in values if value is not None), default=0) or 1
    show([
        {
            **each.run.combination,
            **({} if each.run.epochs is None else {EPOCHS: each.run.epochs}),
            criterion: value,
            "plot": "failed" if value is None else "█" * max(1, round(BAR * value / most)),
            "experiment": each.run.name,
        }
        for each, value in zip(results, values, strict=True)
    ])  # fmt: skip

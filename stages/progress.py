"""Progress of long work with the remaining time: a bar in a terminal, otherwise a line now and then."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from theta.text import counted

LINES = 20
"""Number of lines that a run prints without a terminal."""


QUIET_SECONDS = 10.0
"""Without a terminal, work that takes no longer prints no line, and other work prints none more often."""


@contextmanager
def fraction(what: str) -> Iterator[Callable[[float], None]]:
    """Show the progress of some work; the yielded function is told which fraction of it is done."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(what, total=1.0)
            yield lambda done: progress.update(task, completed=done)
        return
    begin = shown = monotonic()

    def say(done: float) -> None:
        nonlocal shown
        if done and monotonic() - shown > QUIET_SECONDS:
            shown = monotonic()
            seconds_left = (shown - begin) * (1 - done) / done
            typer.echo(f"{what}: {done:.0%}  {timedelta(seconds=round(seconds_left))} left")

    yield say


def show(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Show the progress of the training loop and yield its records unchanged."""
    console = Console(stderr=True)
    return _bar(records, console) if console.is_terminal else _lines(records)


def _bar(records: Iterable[dict[str, Any]], console: Console) -> Iterator[dict[str, Any]]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=None)
        for record, words in _described(records):
            if record["kind"] == "step" and not record.get("resumed"):
                if not progress.tasks[task].total:  # the clock starts here, also for a resumed run
                    progress.reset(task, total=record["steps"], completed=record["step"] - 1)
                progress.update(task, completed=record["step"])
            progress.update(task, description=words)
            yield record


def _lines(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    begin, first_step = monotonic(), 0
    for record, words in _described(records):
        if record["kind"] == "step" and not record.get("resumed"):
            step, steps = record["step"], record["steps"]
            if not first_step:
                begin, first_step = monotonic() - record["seconds"], step
                typer.echo(f"resuming after step {step - 1} of {steps}" if step > 1 else counted(steps, "step"))
            if step * LINES // steps > (step - 1) * LINES // steps:
                seconds_left = (monotonic() - begin) / (step - first_step + 1) * (steps - step)
                typer.echo(f"step {step}/{steps}  {words}  {timedelta(seconds=round(seconds_left))} left")
        yield record


def _described(records: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    validation = ""
    for record in records:
        if record["kind"] == "validation":
            validation = f"  validation {record['loss']:.3f}"
        else:
            step_words = f"loss {record['loss']:.3f}"
            speed = f"  {record['tokens'] / record['seconds']:,.0f} tokens/s"
        yield record, step_words + validation + speed

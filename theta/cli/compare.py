"""`theta compare`: settings, data, figures and replies of two runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theta.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from theta.experiments.compare import Line
    from theta.project.results import Results

Run = Annotated[str, typer.Argument(help="A release, an experiment, a git revision, or `workspace`.")]


def compare(
    one: Run,
    other: Run,
    replies: Annotated[int, typer.Option(min=0, help="Replies to show, those that differ first.")] = 5,
) -> None:
    """Show what differs between two runs: settings, base and data, figures, and replies to the same questions."""
    from theta.cli.console import console, say
    from theta.experiments import compare
    from theta.project.results import find
    from theta.project.tools import find_root

    root = find_root(Path())
    first, second = find(root, one), find(root, other)
    out = console()
    _show(out, "Settings that differ", compare.settings(first, second), first, second)
    for name, same in compare.inputs(first, second).items():
        say(out, f"{name}: " + {True: "the same", False: "different", None: "not recorded"}[same])
    _show(out, "Figures that differ", compare.metrics(first, second), first, second)
    asked = compare.replies(first, second)
    differ = sum(line.one != line.other for line in asked)
    say(out, f"Replies: {counted(len(asked), 'question')} in common, {differ} answered differently")
    for line in asked[:replies]:
        say(out, f"\n? {line.name}", "bold")
        say(out, f"{first.name}: {line.one}")
        say(out, f"{second.name}: {'the same' if line.one == line.other else line.other}")


def _show(out: "Console", title: str, lines: "Sequence[Line]", one: "Results", other: "Results") -> None:
    from theta.cli.console import say, show

    say(out, title if lines else f"{title}: none")
    if lines:
        names = [one.name, other.name if other.name != one.name else f"{other.name} again"]
        show([{"name": line.name, names[0]: line.one, names[1]: line.other, "change": line.change} for line in lines])

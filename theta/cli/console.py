"""Tables and sentences on the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from theta.cli.text import visible


def console(stderr: bool = False) -> Console:
    """Return the terminal; a pipe counts as a wide one."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def say(where: Console, text: str, style: str | None = None) -> None:
    """Print a text with its control characters escaped; in a terminal it is wrapped at words."""
    where.print(visible(text), style=style, markup=False, soft_wrap=not where.is_terminal)


def table(*columns: str) -> Table:
    """Return an empty table; `>` at the end of a name aligns its column right."""
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, name in enumerate(columns):
        right = name.endswith(">")
        made.add_column(
            name.removesuffix(">"), justify="right" if right else "left", overflow="fold", no_wrap=place > 0
        )
    return made


def millions(count: int) -> str:
    """Format a number of parameters in millions."""
    return f"{count / 1e6:,.0f}M"

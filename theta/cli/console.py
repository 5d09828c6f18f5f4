"""Tables and sentences on the terminal."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from theta.text import visible


def console(stderr: bool = False) -> Console:
    """Return the terminal; a pipe counts as a wide one."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def say(where: Console, text: str, style: str | None = None) -> None:
    """Print a text with its control characters escaped; in a terminal it is wrapped at words."""
    where.print(visible(text), style=style, markup=False, soft_wrap=not where.is_terminal)


def note(where: Console, text: str, style: str | None = "dim") -> None:
    """Print what is not part of a command's output, such as a hint; if that goes to a pipe, to standard error."""
    say(where if where.is_terminal else Console(stderr=True, highlight=False), text, style)


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


def show(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows of the same columns as a table; through a pipe, as lines of tab-separated values with a head."""
    out = console()
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    if not out.is_terminal:
        for line in lines:
            out.file.write("\t".join(visible(cell) for cell in line) + "\n")
        return
    is_number = [all(isinstance(row[name], int | float) or row[name] is None for row in rows) for name in lines[0]]
    made = table(*(f"{name}>" if right else name for name, right in zip(lines[0], is_number, strict=True)))
    for line in lines[1:]:
        made.add_row(*map(visible, line))
    out.print(made)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("\t", " ").replace("\n", " ")

"""How a command ends when the user can put something right: one red line on stderr and exit code 1."""

from typing import NoReturn

import typer
from rich.console import Console

from theta.errors import ThetaError


def run(app: typer.Typer) -> None:
    """Run a typer app on the command line's arguments; it exits, and a ThetaError becomes one line."""
    try:
        app()
    except ThetaError as fault:
        fail(str(fault))
    except OSError as fault:  # a full disk, a folder that cannot be written
        fail(f"{fault.strerror}: {fault.filename}" if fault.strerror and fault.filename else str(fault))


def fail(message: str) -> NoReturn:
    """Print `error: message` and exit with 1."""
    Console(stderr=True, highlight=False).print(f"error: {message}", style="red", markup=False, soft_wrap=True)
    raise SystemExit(1)

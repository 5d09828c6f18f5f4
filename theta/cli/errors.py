"""How a command ends when something is wrong that the user can put right: one red line and exit code 1.

Only the standard library is imported at the head, so that a missing environment can be reported in one line, too.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from theta.errors import ThetaError

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: DVC does not take it for success."""


def run(app: "typer.Typer") -> None:
    """Run a typer app on the command line's arguments; it exits, with one line for whatever the user can put right."""
    with one_line():
        app()


@contextmanager
def one_line() -> Iterator[None]:
    """Let a fault of the block that the user can put right end the process with one line; so does Ctrl-C.

    Other faults are errors of Theta itself and keep their traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal in ASCII shows a reply, too
    try:
        yield
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer's own answer to Ctrl-C
            _end("Interrupted.", INTERRUPTED)
        raise
    except BaseException as fault:
        if any(isinstance(cause, KeyboardInterrupt) for cause in _chain(fault)):
            _end("Interrupted.", INTERRUPTED)
        if message := _message(fault):
            fail(message)
        raise


def _message(fault: BaseException) -> str | None:
    """What a fault is in words that tell the remedy, or None if it is an error of Theta itself."""
    from theta.files import is_disk_full

    if isinstance(fault, ThetaError):
        return str(fault)
    if (
        isinstance(fault, ModuleNotFoundError)
        and fault.name
        and fault.name.partition(".")[0] not in ("theta", "stages")
    ):
        return (
            f"{sys.executable} has no module {fault.name}; activate the environment first, with "
            "`. .venv/bin/activate`, or install Theta there, with `pip install -e .`"
        )
    if not isinstance(fault, OSError) and not is_disk_full(fault):
        return None
    # What fails because of an earlier fault, such as a log that is closed, must not hide it.
    if first := next((cause for cause in _chain(fault) if isinstance(cause, ThetaError)), None):
        return str(first)
    words = getattr(fault, "strerror", None) or (str(fault).splitlines() or [type(fault).__name__])[0]
    where = f"{fault.filename}: " if isinstance(fault, OSError) and fault.filename is not None else ""
    return where + (f"{words}; make room on the disk and run the command again." if is_disk_full(fault) else words)


def _chain(fault: BaseException | None) -> Iterator[BaseException]:
    """The fault, and those that were being handled when it arose."""
    seen: set[int] = set()
    while fault is not None and id(fault) not in seen:
        seen.add(id(fault))
        yield fault
        fault = fault.__cause__ or fault.__context__


def fail(message: str) -> NoReturn:
    """Print `error: message` on stderr and exit with 1; control characters in it are spelled out."""
    _end(f"error: {message}", 1)


def _end(line: str, code: int) -> NoReturn:
    from theta.cli.text import visible

    line = visible(line)
    try:
        from rich.console import Console
    except ImportError:  # no environment is active
        print(line, file=sys.stderr)  # noqa: T201
    else:
        Console(stderr=True, highlight=False).print(line, style="red", markup=False, soft_wrap=True)
    raise SystemExit(code)

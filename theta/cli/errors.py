"""How a command ends on an error that the user can fix: one red line and exit code 1.

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
"""Exit code after Ctrl-C, as in shells; DVC does not take it for success."""


def run(app: "typer.Typer") -> None:
    """Run a typer app with the command line's arguments; an error that the user can fix ends it with one line."""
    with one_line():
        app()


@contextmanager
def one_line() -> Iterator[None]:
    """End the process with one line on an error of the block that the user can fix, and on Ctrl-C.

    Other errors are faults of Theta itself and keep their traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # so that a terminal in ASCII can show a reply
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
    """Describe an error and its remedy, or return None if it is a fault of Theta itself."""
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
    # A later failure, such as that of closing a log, must not hide the error that caused it.
    if first := next((cause for cause in _chain(fault) if isinstance(cause, ThetaError)), None):
        return str(first)
    words = getattr(fault, "strerror", None) or (str(fault).splitlines() or [type(fault).__name__])[0]
    where = f"{fault.filename}: " if isinstance(fault, OSError) and fault.filename is not None else ""
    return where + (f"{words}; make room on the disk and run the command again." if is_disk_full(fault) else words)


def _chain(fault: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, and those that were being handled when it was raised."""
    seen: set[int] = set()
    while fault is not None and id(fault) not in seen:
        seen.add(id(fault))
        yield fault
        fault = fault.__cause__ or fault.__context__


def fail(message: str) -> NoReturn:
    """Print `error: message` on stderr and exit with code 1; control characters are escaped."""
    _end(f"error: {message}", 1)


def _end(line: str, code: int) -> NoReturn:
    from theta.text import visible

    line = visible(line)
    try:
        from rich.console import Console
    except ImportError:  # no environment is active
        print(line, file=sys.stderr)  # noqa: T201
    else:
        Console(stderr=True, highlight=False).print(line, style="red", markup=False, soft_wrap=True)
    raise SystemExit(code)

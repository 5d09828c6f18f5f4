"""A writer in a process of its own, the worker.

Python runs one thread of a process at a time. A server that reads requests, decodes text and sends it would hold up
each step of the model, and the model's steps would hold up the server. So the model gets a process, and a step is one
message to it and one back.

    this process    open, close ─ write ──┐             ┌── the tokens
    the worker                            └─ the step ──┘
"""

import signal
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import NamedTuple

from theta.errors import GenerationError, reason
from theta.generate import writers
from theta.generate.engine import Row, Writer, Written

ENDED = "The process that writes the replies has ended"
SECONDS_TO_END = 5
SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""They are for the process that started the worker, which ends when that one has closed the pipe."""


class _Ready(NamedTuple):
    """What the worker says first, once the model is loaded."""

    most_rows: int
    positions: int
    device: str
    dtype: str
    warnings: list[str]


class _Step(NamedTuple):
    """What is to be done, in this order."""

    closed: list[int]
    opened: list[Row]
    rows: list[int]
    """The numbers of those that are written, in their order."""


class _Done(NamedTuple):
    """What a step wrote. Most tokens are an id alone, which the pipe takes in a fraction of the time of a `Written`."""

    ids: dict[int, int]
    reported: dict[int, Written]


class WorkerWriter:
    """Hands everything to a writer in a worker, which ends with this process.

    A step must not be interrupted: an exception between its message and the answer would leave the answer in the pipe.
    """

    def __init__(self, folder: Path, never: writers.Never, device: str, dtype: str) -> None:
        """Start the worker and wait until it has loaded the model; see `writers.of_folder`.

        Args:
            folder: of the model.
            never: a function of a module, or a `functools.partial` of one: it is sent to the worker.
            device, dtype: as `ThetaModel.load` takes them.

        Raises:
            GenerationError: the model cannot be loaded, or the worker ended.
        """
        self._pipe, there = Pipe()
        with there:
            self._process = _start(there)
        end = weakref.finalize(self, _end, self._pipe, self._process)
        try:
            with suppress(OSError):  # its first message tells
                self._pipe.send((folder, never, device, dtype))
            ready = self._first_message(folder)
            for words in ready.warnings:
                warnings.warn(words, stacklevel=3)
        except BaseException:
            end()  # the error's traceback keeps this object
            raise
        self.most_rows, self.positions = ready.most_rows, ready.positions
        self.device, self.dtype = ready.device, ready.dtype
        self._closed: list[int] = []
        self._opened: list[Row] = []
        self._rows = 0

    def _first_message(self, folder: Path) -> _Ready:
        try:
            message: _Ready | Exception = self._pipe.recv()
        except (EOFError, OSError):
            remedy = "free some memory and try again" if self._was_killed() else "its error stands above"
            raise GenerationError(f"{ENDED} while it loaded {folder}; {remedy}.") from None
        if isinstance(message, Exception):
            raise message
        return message

    def _was_killed(self) -> bool:
        """Whether the worker, which has closed the pipe, was ended by a signal."""
        try:
            return self._process.wait(SECONDS_TO_END) < 0
        except subprocess.TimeoutExpired:
            return False

    @property
    def is_alive(self) -> bool:
        """Whether the worker still runs."""
        return self._process.poll() is None

    def open(self, rows: Sequence[Row]) -> None:
        """Take in new rows with the next step."""
        self._opened += rows
        self._rows += len(rows)

    def write(self, rows: Sequence[Row]) -> Mapping[int, Written]:
        """Return what the worker wrote for the rows.

        Raises:
            EOFError: the worker has ended.
            RuntimeError: its writer failed; the message says why.
        """
        step = _Step(self._closed, self._opened, [row.number for row in rows])
        self._closed, self._opened = [], []
        try:
            self._pipe.send(step)
            answer: _Done | str = self._pipe.recv()
        except (EOFError, OSError):
            killed = ": it was killed, perhaps because memory ran out" if self._was_killed() else ""
            raise EOFError(f"{ENDED}{killed}") from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return {number: Written(id_) for number, id_ in answer.ids.items()} | answer.reported

    def close(self, row: Row) -> None:
        """Forget a row with the next step, and the last one at once, since no step may follow for long."""
        self._closed.append(row.number)
        self._rows -= 1
        if not self._rows:
            with suppress(EOFError, RuntimeError):  # the next step tells
                self.write(())


def _start(pipe: Connection) -> subprocess.Popen[bytes]:
    """Start a worker at an end of a pipe.

    It imports nothing but Theta. The processes of multiprocessing import the caller's main module again, which fails if
    that is not a file, and starts a worker in the worker if `load_in_worker` is not called under
    `if __name__ == "__main__"`.
    """
    path, number = [str(each) for each in sys.path], pipe.fileno()
    code = f"import sys; sys.path[:] = {path!r}; from theta.generate.worker import run; run({number})"
    with _signals_ignored():
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=[number])


def _end(pipe: Connection, process: subprocess.Popen[bytes]) -> None:
    """Let the worker end by itself, or end it."""
    pipe.close()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Let a process that is started here ignore `SIGNALS` from its first moment on."""
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread set handlers
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(number: int) -> None:
    """Load the model that the other end of a pipe names, and write what it asks for until it is closed.

    Args:
        number: the file descriptor of this end.
    """
    for signal_number in SIGNALS:
        signal.signal(signal_number, signal.SIG_IGN)
    with suppress(EOFError, OSError), Connection(number) as pipe:
        folder, never, device, dtype = pipe.recv()
        with warnings.catch_warnings(record=True) as caught:
            try:
                writer = writers.of_folder(folder, never, device, dtype)
            except Exception as fault:
                pipe.send(fault)
                return
        words = [str(each.message) for each in caught]
        pipe.send(_Ready(writer.most_rows, writer.positions, writer.device, writer.dtype, words))
        rows: dict[int, Row] = {}
        while True:
            step = pipe.recv()
            try:
                answer: _Done | str = _write(writer, rows, step)
            except Exception as fault:
                answer = reason(fault)
            pipe.send(answer)


def _write(writer: Writer, rows: dict[int, Row], step: _Step) -> _Done:
    for number in step.closed:
        if (row := rows.pop(number, None)) is not None:
            writer.close(row)
    if step.opened:
        writer.open(step.opened)
        rows |= {row.number: row for row in step.opened}
    written: Mapping[int, Written] = writer.write([rows[number] for number in step.rows])
    for number, chosen in written.items():
        rows[number].reply.append(chosen.id)
    reported = {number: chosen for number, chosen in written.items() if chosen.log_probability is not None}
    return _Done({number: chosen.id for number, chosen in written.items() if number not in reported}, reported)

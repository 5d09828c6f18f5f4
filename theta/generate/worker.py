"""A writer in a process of its own, the worker.

Python runs one thread of a process at a time. A server that reads requests, decodes text and sends it would hold up
each step of the model, and the model's steps would hold up the server. So the model gets a process, and a step is one
message to it and one back.

    this process    open, close ─ write ──┐             ┌── the tokens
    the worker                            └─ the step ──┘
"""

import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
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
        context = get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_run, args=(there, folder, never, device, dtype), daemon=True)
        with _signals_ignored():
            self._process.start()
        there.close()
        # Before multiprocessing waits for its processes at the end, or it would wait for ever.
        Finalize(self, _end, args=(self._pipe, self._process), exitpriority=10)
        ready = self._first_message(folder)
        for words in ready.warnings:
            warnings.warn(words, stacklevel=3)
        self.most_rows, self.positions = ready.most_rows, ready.positions
        self.device, self.dtype = ready.device, ready.dtype
        self._closed: list[int] = []
        self._opened: list[Row] = []
        self._rows = 0

    def _first_message(self, folder: Path) -> _Ready:
        try:
            message: _Ready | Exception = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(SECONDS_TO_END)
            killed = (self._process.exitcode or 0) < 0
            remedy = "free some memory and try again" if killed else "its error stands above"
            raise GenerationError(f"{ENDED} while it loaded {folder}; {remedy}.") from None
        if isinstance(message, Exception):
            raise message
        return message

    @property
    def is_alive(self) -> bool:
        """Whether the worker still runs."""
        return self._process.is_alive()

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
            raise EOFError(ENDED) from None
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


def _end(pipe: Connection, process: BaseProcess) -> None:
    """Let the worker end by itself, or end it."""
    pipe.close()
    process.join(SECONDS_TO_END)
    process.kill()


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


def _run(pipe: Connection, folder: Path, never: writers.Never, device: str, dtype: str) -> None:
    """Write what the other end of the pipe asks for, until it is closed."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with suppress(EOFError, OSError):
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

"""A writer in a process of its own.

Python runs one thread of a process at a time. A server that reads requests, decodes text and sends it would hold up
each step of the model, and the model's steps would hold up the server. So the model gets a process, and a step is one
message to it and one back.

    this process    open, close ─ write ──┐             ┌── the tokens
    the other one                         └─ the step ──┘
"""

import signal
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from theta.errors import GenerationError, ThetaError, reason
from theta.generate import writers
from theta.generate.engine import Row, Writer, Written

ENDED = "The process that writes the replies has ended"


class _Ready(NamedTuple):
    """What the other process says first, once the model is loaded."""

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


class ApartWriter:
    """Hands everything to the writer of another process, which ends with this one."""

    def __init__(self, folder: Path, never: writers.Never, device: str, dtype: str) -> None:
        """Start the process and wait until it has loaded the model; see `writers.of_folder`.

        Args:
            folder: of the model.
            never: a function of a module, or a `functools.partial` of one: it is sent to the process.
            device, dtype: as `ThetaModel.load` takes them.

        Raises:
            GenerationError: the model cannot be loaded, or the process ended.
        """
        context = get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_run, args=(there, folder, never, device, dtype), daemon=True)
        self._process.start()
        there.close()
        try:
            ready = self._pipe.recv()
        except EOFError:
            raise GenerationError(f"{ENDED} while it loaded {folder}; free some memory and try again.") from None
        if isinstance(ready, ThetaError):
            raise ready
        for words in ready.warnings:
            warnings.warn(words, stacklevel=3)
        self.most_rows, self.positions = ready.most_rows, ready.positions
        self.device, self.dtype = ready.device, ready.dtype
        self._closed: list[int] = []
        self._opened: list[Row] = []

    def open(self, rows: Sequence[Row]) -> None:
        """Take in new rows with the next step."""
        self._opened += rows

    def write(self, rows: Sequence[Row]) -> Mapping[int, Written]:
        """Return what the other process wrote for the rows.

        Raises:
            EOFError: the process has ended.
            RuntimeError: the writer failed; the message says why.
        """
        step = _Step(self._closed, self._opened, [row.number for row in rows])
        self._closed, self._opened = [], []
        try:
            self._pipe.send(step)
            answer: Mapping[int, Written] | str = self._pipe.recv()
        except OSError:
            raise EOFError(ENDED) from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def close(self, row: Row) -> None:
        """Forget a row with the next step."""
        self._closed.append(row.number)


def _run(pipe: Connection, folder: Path, never: writers.Never, device: str, dtype: str) -> None:
    """Write what the other end of the pipe asks for, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    with warnings.catch_warnings(record=True) as caught:
        try:
            writer = writers.of_folder(folder, never, device, dtype)
        except ThetaError as fault:
            pipe.send(fault)
            return
    words = [str(each.message) for each in caught]
    pipe.send(_Ready(writer.most_rows, writer.positions, writer.device, writer.dtype, words))
    rows: dict[int, Row] = {}
    with suppress(EOFError, OSError):
        while True:
            step = pipe.recv()
            try:
                answer: Mapping[int, Written] | str = _write(writer, rows, step)
            except Exception as fault:
                answer = reason(fault)
            pipe.send(answer)


def _write(writer: Writer, rows: dict[int, Row], step: _Step) -> Mapping[int, Written]:
    for number in step.closed:
        if (row := rows.pop(number, None)) is not None:
            writer.close(row)
    if step.opened:
        writer.open(step.opened)
        rows |= {row.number: row for row in step.opened}
    written: Mapping[int, Written] = writer.write([rows[number] for number in step.rows])
    for number, chosen in written.items():
        rows[number].reply.append(chosen.id)
    return written

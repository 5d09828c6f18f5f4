"""A function over many pieces of work in several processes; the results come in order, so they do not depend on how
many processes there are.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from theta.errors import OutOfMemoryError

T = TypeVar("T")
R = TypeVar("R")

PIECES_AHEAD = 3
"""Pieces that wait for a process, for each process: enough to keep all busy, few enough to keep the memory flat."""


def ordered_map(function: Callable[[T], R], pieces: Iterable[T], processes: int) -> Iterator[R]:
    """Yield `function(piece)` for each piece in order.

    Args:
        function: a function of a module, or a `functools.partial` of one: it is sent to other processes.
        pieces: read as far as the processes need them, so that all of them are never in memory.
        processes: with 1, the function runs in this process.

    Raises:
        OutOfMemoryError: a process was killed, which is what an operating system without memory does.
    """
    if processes <= 1:
        yield from map(function, pieces)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_follow, initargs=(os.getpid(),))
    waiting: deque[Future[R]] = deque()
    try:
        for piece in pieces:
            waiting.append(pool.submit(function, piece))
            if len(waiting) > processes * PIECES_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise OutOfMemoryError(
            "A process was killed, most likely because the memory was full; close other programs."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _follow(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it has ended, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

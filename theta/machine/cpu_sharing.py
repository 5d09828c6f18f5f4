"""Sharing the CPUs with other processes. torch is imported inside functions.

torch's threads wait for each other at the end of every operation. On Linux they wait by GNU OpenMP, which lets a thread
spin for some milliseconds before it sleeps. On an idle machine that is fast. On a busy one, a spinning thread uses up
the time that the scheduler grants it and has none left when its work comes: one busy neighbour on two cores makes
training and generation up to ten times slower. Sleeping at once is good on a busy machine and slow on an idle one.

GNU OpenMP nearly stops spinning while it has more threads than there are CPUs (GOMP_SPINCOUNT in its manual). So while
the machine is busy, Theta keeps further teams of threads that do nothing. The number of threads that compute stays
the same, and so do the results, to the bit.

A step that writes a token is so short that waiting for a thread without a CPU is most of it even so. It is computed by
half of the threads while the machine is busy. `FairThreads` does the same for compiled code that uses no OpenMP.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Barrier, Event, Thread

TASKS = Path("/proc/self/task")
"""The threads of this process, on Linux."""

LOAD = Path("/proc/loadavg")
"""Its fourth field is the number of threads of the machine that have a CPU or want one, and a slash."""

SECONDS_PER_LOOK = 0.25

BUSY_WAIT = 0.1
"""Seconds that the threads of this process wait for a CPU in a second: below this on an idle machine, and 0.4 to 1.2
next to a busy neighbour on two cores (measured)."""

SECONDS_KEPT = 2.0
"""The machine counts as busy for this long after it was last seen to be."""


@cache
def share_cpus() -> None:
    """From now on, let waiting threads sleep while other processes want the CPUs, and spin otherwise.

    Nothing happens on other systems than Linux, with one thread, or where the user has set how threads wait.
    """
    import torch

    set_by_user = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys()
    if TASKS.is_dir() and not set_by_user and torch.get_num_threads() > 1:
        Thread(target=_watch, daemon=True).start()


_seen_busy = Event()
"""Whether the machine was busy when `_watch` last looked."""


def _watch() -> None:
    teams, busy = IdleTeams(), Busy(time.monotonic(), seconds_waited())
    while True:
        time.sleep(SECONDS_PER_LOOK)
        is_busy = busy.now(time.monotonic(), seconds_waited())
        teams.keep(is_busy)  # before others may compute with fewer threads, which would make the teams smaller
        (_seen_busy.set if is_busy else _seen_busy.clear)()


@contextmanager
def fewer_threads_while_busy() -> Iterator[None]:
    """Compute with half of torch's threads if `share_cpus` has found the machine busy."""
    if not _seen_busy.is_set():
        yield
        return
    threads = _threads()
    _set_threads(max(1, threads // 2))
    try:
        yield
    finally:
        _set_threads(threads)


class Busy:
    """Whether the machine is busy, judged by how long the threads of this process wait for a CPU.

    Args:
        at: the time in seconds.
        waited: seconds that the threads have waited so far.
    """

    def __init__(self, at: float, waited: float) -> None:
        self._at, self._waited, self._until = at, waited, at

    def now(self, at: float, waited: float) -> bool:
        """Return whether the machine is busy at a later time."""
        if waited - self._waited > BUSY_WAIT * (at - self._at):
            self._until = at + SECONDS_KEPT
        self._at, self._waited = at, waited
        return at < self._until


class FairThreads:
    """The number of threads for short calls whose threads spin while they wait for each other; half of it while busy.

    Such a call uses the time of all its threads. What it does not use, some of them have waited for a CPU. The first
    calls after a pause, of which nothing is known yet, go by what runs on the machine when they begin.

    Args:
        threads: on an idle machine.
    """

    def __init__(self, threads: int) -> None:
        self._threads, self._waited, self._is_busy = threads, 0.0, False
        self._looked = self._ended = -SECONDS_KEPT
        self._busy = Busy(self._looked, self._waited)

    @contextmanager
    def computing(self) -> Iterator[int]:
        """Give the number of threads for a call that is made in this block."""
        began, used = time.monotonic(), time.process_time()
        if began >= self._ended + SECONDS_KEPT:
            self._looked, self._is_busy = began, lacks_cpus(self._threads)
            self._busy = Busy(began, self._waited)
        threads = max(1, self._threads // 2) if self._is_busy else self._threads
        yield threads
        self._ended = now = time.monotonic()
        self._waited += max(0.0, threads * (now - began) - (time.process_time() - used))
        if now >= self._looked + SECONDS_PER_LOOK:
            self._looked, self._is_busy = now, self._busy.now(now, self._waited)


def lacks_cpus(threads: int) -> bool:
    """Whether this many threads, with this one, would share CPUs with what runs now; False where that is unknown."""
    try:
        running = int(LOAD.read_text().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return False
    return running - 1 + threads > (os.cpu_count() or 1)


class IdleTeams:
    """OpenMP teams that do nothing, enough of them to have more threads than CPUs."""

    def __init__(self) -> None:
        self._end: Event | None = None

    def keep(self, wanted: bool) -> None:
        """Start the teams if they are wanted and wait until they exist, and end them if they are not."""
        if wanted and self._end is None:
            self._end, teams = Event(), teams_needed(_threads(), len(os.sched_getaffinity(0)))
            started = Barrier(teams + 1)
            for _ in range(teams):
                Thread(target=self._live, args=(started, self._end), daemon=True).start()
            started.wait()
        elif not wanted and self._end is not None:
            self._end.set()
            self._end = None

    @staticmethod
    def _live(started: Barrier, end: Event) -> None:
        import torch

        torch.zeros(2**20)  # large enough to be divided among threads
        started.wait()
        end.wait()


def teams_needed(threads: int, cpus: int) -> int:
    """Return how many teams of this many threads, besides the one that computes, have more threads than CPUs."""
    return max(1, cpus // threads)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def seconds_waited() -> float:
    """Return the seconds for which threads of this process were ready to run and had no CPU."""
    nanoseconds = 0
    for task in TASKS.iterdir():
        try:
            nanoseconds += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError):  # the thread has ended, or the kernel does not count
            continue
    return nanoseconds / 1e9

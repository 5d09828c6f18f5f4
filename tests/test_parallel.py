"""Work in several processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from theta.errors import OutOfMemoryError
from theta.parallel import ordered_map

ROOT = Path(__file__).parents[1]


def square(number: int) -> int:
    time.sleep((7 - number % 7) / 500)  # so that later ones are ready first
    return number * number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("processes", [1, 3])
def test_the_results_come_in_order(processes: int) -> None:
    assert list(ordered_map(square, range(30), processes)) == [number * number for number in range(30)]


def test_pieces_are_read_only_as_far_as_they_are_needed() -> None:
    read = []

    def pieces() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    results = ordered_map(square, pieces(), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(read) < 20


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(OutOfMemoryError, match="most likely because the memory was full"):
        list(ordered_map(die, range(3), 2))


@pytest.mark.slow
def test_processes_end_with_their_parent() -> None:
    code = (
        "import time, os\nfrom theta.parallel import ordered_map\nfrom tests.test_parallel import slow_pid\n"
        "if __name__ == '__main__':\n"
        "    for pid in ordered_map(slow_pid, range(100), 2):\n"
        "        print(pid, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


def slow_pid(_: int) -> int:
    time.sleep(0.2)
    return os.getpid()

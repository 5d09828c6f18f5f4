"""Threads sleep while other processes want the CPUs, and spin otherwise."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
import torch

from theta.machine import cpu_sharing
from theta.machine.cpu_sharing import (
    BUSY_WAIT,
    SECONDS_KEPT,
    SECONDS_PER_LOOK,
    TASKS,
    Busy,
    FairThreads,
    IdleTeams,
    teams_needed,
)

pytestmark = pytest.mark.skipif(not TASKS.is_dir(), reason="needs /proc")


def test_a_machine_is_busy_while_threads_wait_and_for_some_time_after() -> None:
    at, waited, seen = 1000.0, 0.0, []
    busy = Busy(at, waited)
    for fraction in (BUSY_WAIT / 2, 2 * BUSY_WAIT, 0.0):
        at, waited = at + SECONDS_PER_LOOK, waited + fraction * SECONDS_PER_LOOK
        seen.append(busy.now(at, waited))
    seen.append(busy.now(at + SECONDS_KEPT, waited))
    assert seen == [False, True, True, False]


def test_calls_that_wait_for_a_cpu_get_half_of_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of a tenth of a second: their 4 threads use all of their time, then half of it, then all again."""
    clock = {"monotonic": 100.0, "process_time": 5.0}
    monkeypatch.setattr(cpu_sharing, "lacks_cpus", lambda _: False)
    monkeypatch.setattr("theta.machine.cpu_sharing.time.monotonic", lambda: clock["monotonic"])
    monkeypatch.setattr("theta.machine.cpu_sharing.time.process_time", lambda: clock["process_time"])
    fair, given = FairThreads(4), []
    for used in [1.0] * 5 + [0.5] * 5 + [1.0] * 30:
        with fair.computing() as threads:
            clock["monotonic"] += 0.1
            clock["process_time"] += 0.1 * threads * used
        given.append(threads)
    assert given[:5] == [4] * 5
    assert 10 * SECONDS_KEPT <= given.count(2) <= 10 * SECONDS_KEPT + 10
    assert given[-1] == 4


def test_the_first_call_after_a_pause_goes_by_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    fair, busy, given = FairThreads(4), [True, False], []
    monkeypatch.setattr(cpu_sharing, "lacks_cpus", lambda _: busy.pop(0))
    for now in (100.0, 100.1, 100.1 + SECONDS_KEPT):
        monkeypatch.setattr("theta.machine.cpu_sharing.time.monotonic", lambda now=now: now)
        with fair.computing() as threads:
            given.append(threads)
    assert given == [2, 2, 4]


@pytest.mark.parametrize(("running", "lacks"), [("2/300", False), ("3/300", True), ("nonsense", False)])
def test_what_runs_is_read(running: str, lacks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads on four CPUs, of which this thread is the first."""
    (tmp_path / "loadavg").write_text(f"0.10 0.20 0.30 {running} 4711\n")
    monkeypatch.setattr(cpu_sharing, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert cpu_sharing.lacks_cpus(3) is lacks


@pytest.mark.slow
def test_waiting_is_counted() -> None:
    """Next to twice as many spinning threads as CPUs, this thread has to wait."""
    code = (
        "import os, threading, time\n"
        "from theta.machine.cpu_sharing import seconds_waited\n"
        "children = [os.fork() for _ in range(0)]\n"
        "before = seconds_waited()\n"
        "pids = []\n"
        "for _ in range(2 * len(os.sched_getaffinity(0))):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        end = time.monotonic() + 1\n"
        "        while time.monotonic() < end: pass\n"
        "        os._exit(0)\n"
        "    pids.append(pid)\n"
        "end = time.monotonic() + 0.5\n"
        "while time.monotonic() < end: pass\n"
        "print(seconds_waited() - before)\n"
        "[os.waitpid(pid, 0) for pid in pids]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.05


def test_results_stay_the_same_to_the_bit_with_an_idle_team() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    team = IdleTeams()
    try:
        a = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
        expected = torch.softmax(a @ a, -1).sum(0)
        team.keep(True)
        team.keep(True)
        assert torch.equal(torch.softmax(a @ a, -1).sum(0), expected)
        team.keep(False)
        assert torch.equal(torch.softmax(a @ a, -1).sum(0), expected)
    finally:
        team.keep(False)
        torch.set_num_threads(before)


def test_the_team_starts_and_ends() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    team = IdleTeams()
    try:
        alone = threads()
        team.keep(True)
        wait_until(lambda: threads() > alone)
        team.keep(False)
        wait_until(lambda: threads() <= alone)
    finally:
        team.keep(False)
        torch.set_num_threads(before)


@pytest.mark.parametrize(("threads", "cpus"), [(2, 2), (8, 16), (4, 16), (2, 64), (6, 16), (16, 16), (32, 16)])
def test_there_are_more_threads_than_cpus(threads: int, cpus: int) -> None:
    teams = teams_needed(threads, cpus)
    assert threads * (1 + teams) > cpus
    assert teams == 1 or threads * teams <= cpus, "not more teams than needed"


def threads() -> int:
    return len(list(TASKS.iterdir()))


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_half_of_the_threads_compute_while_the_machine_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_busy = Event()
    monkeypatch.setattr(cpu_sharing, "_seen_busy", seen_busy)
    before, counts = torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        for busy in (False, True, False):
            (seen_busy.set if busy else seen_busy.clear)()
            with cpu_sharing.fewer_threads_while_busy():
                counts.append(torch.get_num_threads())
            counts.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert counts == [4, 4, 2, 4, 4, 4]

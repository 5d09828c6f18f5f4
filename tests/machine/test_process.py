"""The process of a stage: threads, the end of its parent, and signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from theta.machine.process import available_cores, dvc_parent, set_threads, stop_reason


def cgroup(root: Path, **files: str) -> Path:
    """A control group with these files; `__` in a name stands for a dot."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name.replace("__", ".")).write_text(content + "\n")
    return root


def cores(root: Path, membership: str) -> int:
    (root / "membership").write_text(membership)
    return available_cores(root, root / "membership")


def test_a_cpu_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    cgroup(tmp_path / "box", cpu__max="350000 100000")
    cgroup(tmp_path / "box" / "inner", cpu__max="max 100000")
    assert cores(tmp_path, "0::/box/inner\n") == 3
    assert cores(tmp_path, "0::/other\n") == 8
    cgroup(tmp_path / "box", cpu__max="20000 100000")
    assert cores(tmp_path, "0::/box\n") == 1
    assert available_cores(tmp_path, tmp_path / "absent") == 8


def test_a_cpu_quota_of_the_first_version_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    cgroup(tmp_path / "cpu,cpuacct" / "box", **{"cpu__cfs_quota_us": "200000", "cpu__cfs_period_us": "100000"})
    assert cores(tmp_path, "5:memory:/box\n4:cpu,cpuacct:/box\n") == 2
    cgroup(tmp_path / "cpu,cpuacct" / "box", cpu__cfs_quota_us="-1")
    assert cores(tmp_path, "4:cpu,cpuacct:/box\n") == 8


def test_the_number_of_threads_is_set() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(3) == torch.get_num_threads() == 3
        assert set_threads("auto") <= min(3, available_cores())
    finally:
        torch.set_num_threads(before)


def test_only_a_dvc_that_has_ended_stops_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage continues when the shell that started it ends, as users of nohup expect."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert dvc_parent() is None
    with stop_reason(None) as reason:
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert reason() is None
    monkeypatch.setenv("DVC_ROOT", "/project")
    monkeypatch.setattr(os, "getppid", lambda: 77)
    parent = dvc_parent()
    assert parent == 77
    with stop_reason(parent) as reason:
        assert reason() is None
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert reason() == "DVC is gone"


def test_a_signal_is_a_reason_to_stop_and_an_ignored_one_is_not() -> None:
    code = (
        "import os, signal, sys\n"
        "from theta.machine.process import stop_reason\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with stop_reason(None) as reason:\n"
        "    os.kill(os.getpid(), signal.SIGHUP); print(reason())\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print(reason())\n"
        "print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["None", f"{signal.SIGTERM.name} received", "True", ""]

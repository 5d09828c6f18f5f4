"""The process that a stage runs in: its memory, its threads, and when it should stop.

Nothing here imports torch at its head: some of it must be set before that.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_large_buffers() -> None:
    """Tell glibc to keep freed memory; must run before torch is imported.

    Otherwise it returns the buffers of the logits, hundreds of megabytes, to the system after each step and has
    them zeroed again in the next: 2x in training on a CPU. Elsewhere than on glibc nothing happens.
    """
    if "torch" not in sys.modules and (libc := _glibc()):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 256 << 20)


def give_back_memory() -> None:
    """Give what is free of the memory that glibc keeps back to the system; some 0.2 seconds.

    Steps differ in size, so the kept memory falls into pieces and grows with every step.
    """
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:  # musl
        return None


def prepare_gpu() -> None:
    """Set up torch for a GPU; must run before torch is imported. What the user has set stays.

    Compiled code is kept between runs, where a restart does not empty the folder. The allocator grows its segments
    instead of cutting the memory into pieces that fit no later tensor; `devices` turns this off where the driver
    does not know it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "theta" / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache / "triton"))
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # the older name
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def set_threads(threads: int | str) -> int:
    """Set torch's CPU threads and return their number; "auto" takes the cores that this process may use."""
    import torch

    if threads == "auto":
        threads = min(torch.get_num_threads(), available_cores())
    torch.set_num_threads(int(threads))
    return torch.get_num_threads()


def available_cores(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """The cores that this process may use: its affinity, and the CPU quota of its control groups on Linux.

    A container sees all cores of its host, but is stopped whenever its quota is used up.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _cpu_quotas(cgroups, membership))]))


def _cpu_quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """The quotas in cores of the control groups that this process is in, of versions 2 and 1."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        folder = root / group.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(root):
                yield from _cpu_quota(each)


def _cpu_quota(group: Path) -> Iterator[float]:
    """The quota of one control group in cores; none if it has no limit."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    except (OSError, ValueError):
        return
    if quota not in ("max", "-1"):
        yield float(quota) / float(period)


def dvc_parent() -> int | None:
    """The process id of the DVC that started this process; None if something else did.

    A DVC that is killed leaves its stage running, so the stage has to notice. A stage that a shell started goes on
    when the shell ends: that is what nohup is for.
    """
    return os.getppid() if "DVC_ROOT" in os.environ else None


def parent_is_gone(parent: int | None) -> bool:
    """Whether the process with this id is no longer the parent of this one; never for None."""
    return parent is not None and os.getppid() != parent


@contextmanager
def stop_reason(parent: int | None) -> Iterator[Callable[[], str | None]]:
    """While the block runs, signals only set a flag; the function yielded tells why to stop, or None.

    Args:
        parent: as `dvc_parent` returned it when this process began.
    """
    received: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

    def reason() -> str | None:
        if received:
            return f"{received[0]} received"
        return "DVC is gone" if parent_is_gone(parent) else None

    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    # A signal that is ignored stays so: nohup ignores SIGHUP.
    previous = {number: signal.signal(number, note) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield reason
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""The process that a stage runs in: its memory, its threads, and when it should stop.

This module does not import torch at its head, since some functions must run before torch is imported.
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
    them zeroed again in the next; keeping them makes training on a CPU twice as fast. Without glibc nothing happens.
    """
    if "torch" not in sys.modules and (libc := _glibc()):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 256 << 20)


def give_back_memory() -> None:
    """Return the free memory that glibc keeps to the system, in about 0.2 seconds.

    Steps differ in size, so the kept memory becomes fragmented and grows with every step.
    """
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:  # musl
        return None


def prepare_gpu() -> None:
    """Set up torch for a GPU; must run before torch is imported. What the user has set is kept.

    Compiled code is cached between runs in a folder that survives a restart. The allocator grows its segments instead
    of fragmenting the memory; `devices` turns this off where the driver does not support it.
    """
    cache = user_cache() / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache / "triton"))
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # the older name
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def user_cache() -> Path:
    """Return the folder for what Theta may make again, which survives a restart.

    Raises:
        OSError: this user has no home folder.
    """
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "theta"
    try:
        return Path.home() / ".cache" / "theta"
    except RuntimeError as fault:
        raise OSError(str(fault)) from None


def set_threads(threads: int | str) -> int:
    """Set torch's CPU threads and return their number; "auto" takes the cores that this process may use."""
    import torch

    if threads == "auto":
        threads = min(torch.get_num_threads(), available_cores())
    torch.set_num_threads(int(threads))
    return torch.get_num_threads()


MOST_THREADS = 1024


def computing_threads() -> int:
    """Return the number of threads for code without torch: one for each core, or torch's number if it is imported.

    OMP_NUM_THREADS, which torch obeys, sets it here too.
    """
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    import psutil

    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return min(int(asked), MOST_THREADS)
    return min(available_cores(), psutil.cpu_count(logical=False) or available_cores())


def available_cores(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Count the cores that this process may use, by its affinity and, on Linux, the CPU quota of its control groups.

    A container sees all cores of its host but is stopped whenever its quota is used up.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _cpu_quotas(cgroups, membership))]))


def _cpu_quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the control groups (versions 2 and 1) that this process belongs to."""
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
    """Yield the quota of one control group in cores, if it has a limit."""
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
    """Return the process id of the DVC that started this process; None if something else did.

    If DVC is killed, its stage keeps running, so the stage has to notice. A stage that was started from a shell
    continues when the shell ends, as users of nohup expect.
    """
    return os.getppid() if "DVC_ROOT" in os.environ else None


def parent_is_gone(parent: int | None) -> bool:
    """Whether the process with this id is no longer the parent of this one; never for None."""
    return parent is not None and os.getppid() != parent


@contextmanager
def stop_reason(parent: int | None) -> Iterator[Callable[[], str | None]]:
    """While the block runs, signals only set a flag; the yielded function returns the reason to stop, or None.

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
    # Ignored signals stay ignored: nohup ignores SIGHUP.
    previous = {
        number: signal.signal(number, note)
        for number in numbers
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield reason
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

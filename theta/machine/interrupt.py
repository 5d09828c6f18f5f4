"""Noticing that training should stop: Ctrl-C, a termination signal, or a parent process that is gone."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def stop_reason(parent: int) -> Iterator[Callable[[], str | None]]:
    """While the block runs, signals only set a flag; the function yielded tells why to stop, or None.

    Args:
        parent: the parent's process id when this process began. A DVC that is killed by SIGTERM leaves its stage
            running as an orphan, so a changed parent is a reason too.
    """
    received: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

    def reason() -> str | None:
        if received:
            return f"{received[0]} received"
        return "the parent process is gone" if os.getppid() != parent else None

    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    # A signal that is ignored stays so: nohup ignores SIGHUP.
    previous = {number: signal.signal(number, note) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield reason
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

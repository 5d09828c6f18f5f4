"""Starting one process for each GPU, by torchrun's own launcher, and telling in one line how they ended."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from uuid import uuid4

from theta.errors import TrainingError, TrainingInterruptedError


def launch(processes: int, arguments: Sequence[str], parent: int) -> None:
    """Run `python arguments...` so many times side by side, and return when all have ended well.

    When one fails, the others are ended too. A signal to this process reaches all of them.

    Args:
        parent: the parent's process id when this process began; when it is gone, all are asked to stop.

    Raises:
        TrainingInterruptedError: stopped from outside.
        TrainingError: a process was killed.
        SystemExit: a process failed and has printed why.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
    )
    threading.Thread(target=_stop_as_orphan, args=(parent,), daemon=True).start()
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except SignalException as fault:
        raise TrainingInterruptedError(
            f"Training stopped ({signal.Signals(fault.sigval).name} received); run the same command again and it goes "
            "on from the last state that was written."
        ) from None
    except ChildFailedError as fault:
        rank, failure = next(iter(fault.failures.items()))
        if failure.exitcode == 1:  # it has printed its error
            raise SystemExit(1) from None
        raise TrainingError(
            f"Rank {rank} of {processes} ended with exit code {failure.exitcode}; run the same command again and "
            "training goes on from the last state that was written."
        ) from None


def _stop_as_orphan(parent: int) -> None:
    """A DVC that is killed leaves its stage running as an orphan."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)

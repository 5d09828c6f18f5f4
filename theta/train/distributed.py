"""The processes that train together, one for each GPU: who they are, what they agree on, and how they are started.

Each rank computes its share of a step's rows. Losses and gradients are parts of the step's mean, so their sum over the
ranks is the loss and the gradient of the step for any number of ranks. Everything that depends on a GPU is decided
once, by rank 0 for the smallest GPU, and sent to all ranks, because the GPUs of one machine may differ.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor

from theta.errors import ThetaError, TrainingError, TrainingInterruptedError
from theta.machine.process import parent_is_gone

if TYPE_CHECKING:
    from torch.distributed.launcher.api import elastic_launch

TIMEOUT = timedelta(hours=1)
"""How long a rank waits for another, which may be writing a large state to a slow disk."""

ERROR_FILE = "THETA_ERROR_FILE"
"""Environment variable: where the first rank that fails writes why; `launch` sets it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0; rank 0 alone writes files and shows progress.
        count: the number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor with its sum over the ranks; the host does not wait for a GPU."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def any(self, condition: bool) -> bool:
        """Whether the condition holds on any rank."""
        if self.count == 1:
            return condition
        flag = torch.tensor(int(condition))  # on the CPU, so that it does not wait for the GPU's work
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def all_of(self, value: T) -> list[T]:
        """Return the values of all ranks, in order of rank."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        dist.all_gather_object(values, value)
        return values

    def of_first(self, value: T) -> T:
        """Return the value of rank 0."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        self.any(False)


ALONE = Ranks()


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started; a process that it did not start is alone.

    Args:
        device: of every rank; of several GPUs, each rank takes the one with its local rank as index.
    """
    if not started_by_torchrun():
        yield ALONE
        return
    own = None
    if device.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
    dist.init_process_group("cpu:gloo,cuda:nccl" if own else "gloo", timeout=TIMEOUT, device_id=own)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def one_error(ranks: Ranks) -> Iterator[None]:
    """Let several ranks fail with one error: that of the rank that failed first.

    A rank that fails alone breaks its connection to the others, so they fail as well, for no reason of their own. The
    first one writes its error to the file that `launch` reads, and all of them exit with 1.
    """
    try:
        yield
    except Exception as fault:
        file = os.environ.get(ERROR_FILE)
        if ranks.count == 1 or file is None:
            raise
        if isinstance(fault, ThetaError):
            with suppress(FileExistsError), Path(file).open("x", encoding="utf-8") as out:
                out.write(str(fault))
        elif not _exists_soon(Path(file)):
            raise
        raise SystemExit(1) from None


def _exists_soon(file: Path) -> bool:
    """Whether the file exists or does so within two seconds: the rank that failed first may still be writing it."""
    end = time.monotonic() + 2
    while not file.is_file() and time.monotonic() < end:
        time.sleep(0.05)
    return file.is_file()


def launch(processes: int, arguments: Sequence[str], parent: int | None) -> None:
    """Run `python arguments...` in several processes side by side, and return when all have succeeded.

    When one fails, the others are stopped too. A signal to this process reaches all of them.

    Args:
        parent: as for `theta.machine.process.stop_reason`; when it has ended, all processes are asked to stop.

    Raises:
        TrainingInterruptedError: training was stopped from outside.
        TrainingError: a process failed or was killed.
        SystemExit: a process failed and has printed why.
    """
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        # An address, because the ranks would wait for minutes where the name of this host does not resolve.
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.5,
    )
    threading.Thread(target=_stop_as_orphan, args=(parent,), daemon=True).start()
    with TemporaryDirectory() as folder:
        error = Path(folder) / "error.txt"
        os.environ[ERROR_FILE] = str(error)
        _run(elastic_launch(config, sys.executable), arguments, processes, error)


def _run(launcher: "elastic_launch", arguments: Sequence[str], processes: int, error: Path) -> None:
    """Run the processes; `error` is the file to which the first rank that fails writes why."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launcher(*arguments)
    except SignalException as fault:
        raise TrainingInterruptedError(
            f"Training stopped ({signal.Signals(fault.sigval).name} received); run the same command again to "
            "continue from the last state that was written."
        ) from None
    except ChildFailedError as fault:
        if error.is_file():
            raise TrainingError(error.read_text(encoding="utf-8")) from None
        # Those that end with 1 have printed their error; it may only say that another one, which was killed, is gone.
        killed = {rank: each.exitcode for rank, each in fault.failures.items() if each.exitcode != 1}
        if not killed:
            raise SystemExit(1) from None
        rank, code = next(iter(killed.items()))
        raise TrainingError(
            f"Rank {rank} of {processes} ended with exit code {code}; run the same command again to continue from the "
            "last state that was written."
        ) from None


def _stop_as_orphan(parent: int | None) -> None:
    """End this process when its parent has ended."""
    while not parent_is_gone(parent):
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)

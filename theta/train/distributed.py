"""The processes that train together, one for each GPU: who they are, and what they add up.

Each rank computes its share of a step's rows. Losses and gradients are parts of the step's mean, so their sum over the
ranks is the step's loss and gradient, whatever the number of ranks.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(hours=1)
"""How long a rank waits for another, which may be writing a large state to a slow disk."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0; rank 0 alone writes files and shows progress.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks; the host does not wait for a GPU."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def any(self, condition: bool) -> bool:
        """Whether the condition holds on any rank."""
        if self.count == 1:
            return condition
        flag = torch.tensor(int(condition))  # on the CPU: between the hosts, past the work of the GPUs
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)


ALONE = Ranks()


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """This process among those that torchrun started; one that it did not start is alone.

    Args:
        device: of every rank; of several GPUs each rank takes the one with its local number.
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

"""What is done with a row: its gradients in training, its nats in validation."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.model.forward import draws
from theta.model.rows import Row
from theta.optim.gradients import Gradients
from theta.train.compute import Compute
from theta.train.cuda_graphs import Recorded

Work = Callable[[Row, Tensor], Tensor]
"""From a row, and the share of its nats in a mean, to that part of the mean; both scalars on the device."""


@dataclass(frozen=True, slots=True)
class Works:
    """The works on a model; on a GPU they are recorded, so a result is to be read before the next call.

    Attributes:
        first_gradient: forgets the gradients that there are and makes those of a row.
        more_gradient: adds those of a further row.
        nats: makes none.
    """

    first_gradient: Work
    more_gradient: Work
    nats: Work

    @classmethod
    def of(cls, model: GPT2LMHeadModel, compute: Compute, gradients: Gradients) -> "Works":
        """The works on a model with this compute."""

        def more(row: Row, share: Tensor) -> Tensor:
            part = compute.nats(model, row, share, compute.label_smoothing)
            part.backward()
            return part.detach()

        def first(row: Row, share: Tensor) -> Tensor:
            gradients.clear()
            return more(row, share)

        @torch.no_grad()
        def nats(row: Row, share: Tensor) -> Tensor:
            return compute.nats(model, row, share)

        # A recording cannot draw dropout a second time for what is made again, nor should it hold talk between ranks.
        draws_twice = compute.plan.recompute and draws(model)
        talks = compute.plan.step_in_backward and compute.ranks.count > 1
        if compute.shape is None or draws_twice or talks:
            return cls(first, more, nats)
        pool = torch.cuda.graph_pool_handle()
        return cls(*(Recorded(work, pool) for work in (first, more, nats)))

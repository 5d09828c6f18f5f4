"""The work on a row: its gradients in training, its nats in validation; on a GPU it is replayed as CUDA graphs.

A step of gpt2-medium launches two thousand kernels; launching them from Python takes longer than running them. All
rows of a run have one shape, so the launches are the same for each: the first row is computed as usual (which
compiles the kernels), the second is recorded, and from then on the recording is replayed on new rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.model.forward import draws
from theta.model.rows import Row
from theta.optim.update import Gradients
from theta.train.compute import Compute

RowFunction = Callable[[Row, Tensor], Tensor]
"""Takes a row and a scalar scale; returns the scaled nats of its data and its rehearsal, [2]. All are on the device."""


@dataclass(frozen=True, slots=True)
class RowWork:
    """The functions that work on a row. A result must be read before the next call.

    Attributes:
        first_gradient: drops all gradients and computes those of the row.
        more_gradient: adds the gradients of a further row.
        nats: computes no gradient.
    """

    first_gradient: RowFunction
    more_gradient: RowFunction
    nats: RowFunction

    @classmethod
    def of(cls, model: GPT2LMHeadModel, compute: Compute, gradients: Gradients) -> "RowWork":
        """Return the functions for a model, recorded where all rows have one shape."""

        def more(row: Row, scale: Tensor) -> Tensor:
            total, parts = compute.nats(model, row, scale, compute.label_smoothing)
            total.backward()
            return parts

        def first(row: Row, scale: Tensor) -> Tensor:
            gradients.clear()
            return more(row, scale)

        @torch.no_grad()
        def nats(row: Row, scale: Tensor) -> Tensor:
            return compute.nats(model, row, scale)[1]

        # A recording cannot draw the same dropout again to recompute, and ranks must not communicate within it.
        draws_twice = compute.plan.recompute and draws(model)
        talks = compute.plan.step_in_backward and compute.ranks.count > 1
        if compute.shape is None or draws_twice or talks:
            return cls(first, more, nats)
        pool = torch.cuda.graph_pool_handle()
        return cls(*(Recorded(function, pool) for function in (first, more, nats)))


class Recorded:
    """A function of a row and a scalar that is recorded as CUDA graphs from its second call on.

    All calls must use rows of one shape, and one stream other than the default stream. Tensors that the function
    changes, except its result, must keep their addresses.
    """

    def __init__(self, function: RowFunction, pool: tuple[int, int]) -> None:
        self._function, self._pool = function, pool
        self._warm = False
        # Two take turns: while one is replayed, the driver lets the host launch the other, but not the same one again.
        self._recordings: list[_Recording] = []

    def __call__(self, row: Row, number: Tensor) -> Tensor:
        """Return the function's result, which must be read before the next call."""
        if not self._warm:
            self._warm = True
            return self._function(row, number)
        if len(self._recordings) < 2:
            self._recordings.append(_Recording(self._function, row, number, self._pool))
        else:
            self._recordings.reverse()
        return self._recordings[-1].replay(row, number)


class _Recording:
    """One CUDA graph, with the row that it reads."""

    def __init__(self, function: RowFunction, row: Row, number: Tensor, pool: tuple[int, int]) -> None:
        self._row, self._number = row, number.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=torch.cuda.current_stream()):  # type: ignore[arg-type]
            self._result = function(self._row, self._number)

    def replay(self, row: Row, number: Tensor) -> Tensor:
        for mine, new in zip(_tensors(self._row), _tensors(row), strict=True):
            mine.copy_(new)
        self._number.copy_(number)
        self._graph.replay()
        return self._result


def _tensors(row: Row) -> list[Tensor]:
    assert row.packing.table is not None
    return [row.ids, row.packing.position_ids, row.packing.table, row.predicting, row.targets, row.rehearsed]

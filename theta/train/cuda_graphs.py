"""Work on a row recorded as a CUDA graph and replayed, so that the host does not hold a fast GPU up.

A step of gpt2-medium launches two thousand kernels; launched one by one from Python they take longer than they run. All
rows of a run have one shape, so the launches are the same for each: the first row is computed as usual (which
compiles the kernels), the second is recorded, and from then on the recording is replayed on new rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from theta.model.rows import Row


class Recorded:
    """A function of a row and a scalar, both on the device, that is recorded when it is called again.

    All calls must come with rows of one shape and on one stream, which is not the default stream. What the function
    changes beside its result must stay where it is.
    """

    def __init__(self, work: Callable[[Row, Tensor], Tensor], pool: tuple[int, int]) -> None:
        self._work, self._pool = work, pool
        self._warm = False
        # Two, in turn: while one is replayed the driver lets the host submit another, but not the same.
        self._recordings: list[_Recording] = []

    def __call__(self, row: Row, number: Tensor) -> Tensor:
        """The work's result, to be read before the next call."""
        if not self._warm:
            self._warm = True
            return self._work(row, number)
        if len(self._recordings) < 2:
            self._recordings.append(_Recording(self._work, row, number, self._pool))
        else:
            self._recordings.reverse()
        return self._recordings[-1].replay(row, number)


class _Recording:
    """One CUDA graph, with the row that it reads."""

    def __init__(self, work: Callable[[Row, Tensor], Tensor], row: Row, number: Tensor, pool: tuple[int, int]) -> None:
        self._row, self._number = row, number.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=torch.cuda.current_stream()):  # type: ignore[arg-type]
            self._result = work(self._row, self._number)

    def replay(self, row: Row, number: Tensor) -> Tensor:
        for mine, new in zip(_tensors(self._row), _tensors(row), strict=True):
            mine.copy_(new)
        self._number.copy_(number)
        self._graph.replay()
        return self._result


def _tensors(row: Row) -> list[Tensor]:
    assert row.packing.table is not None
    return [row.ids, row.packing.position_ids, row.packing.table, row.predicting, row.targets]

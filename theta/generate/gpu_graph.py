"""CUDA graphs: what the host would launch kernel by kernel, launched at once."""

from collections.abc import Callable

import torch

WARM_UPS = 2
"""Runs before the recording, in which kernels are compiled and memory is taken."""


def recorded(compute: Callable[[], None]) -> Callable[[], None]:
    """Record what a computation launches as a CUDA graph, and return what replays it.

    Args:
        compute: reads and writes the same tensors each time, and may be run without harm.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            compute()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        compute()
    return graph.replay

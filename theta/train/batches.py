"""Which documents each step sees. The whole order is known before the first step, so resuming is an index."""

from collections.abc import Sequence

import numpy as np


def steps_of(lengths: Sequence[int], *, tokens_per_step: int, epochs: int, seed: int) -> list[list[int]]:
    """The documents of each step: shuffled anew each epoch, laid out until the next one would not fit.

    Steps run on over the border of an epoch, so only the last one may be small. They do not depend on how a step
    is cut into microbatches.

    Args:
        lengths: tokens of each document; none above `tokens_per_step`.
    """
    steps: list[list[int]] = []
    room = 0
    for epoch in range(epochs):
        for document in np.random.default_rng([seed, epoch]).permutation(len(lengths)).tolist():
            length = int(lengths[document])
            if length > room:
                steps.append([])
                room = tokens_per_step
            steps[-1].append(document)
            room -= length
    return steps

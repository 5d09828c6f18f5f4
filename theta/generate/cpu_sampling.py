"""How the next token is chosen from the logits on a CPU, in NumPy: what `theta.generate.sampling` does, rule by rule.

NumPy takes a fourth of torch's time here, since its calls cost less and use one thread. The engines in NumPy and in
torch share it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from theta.generate.engine import Row, Written
from theta.generate.settings import GenerationSettings

Scores = NDArray[np.float32]

CHUNK = 64
"""How many scores have one maximum in common, which is all that the search for the highest reads more than once."""


def choose(logits: Scores, row: Row) -> Written:
    """Return the next token of a row from its logits [V], with -inf for ids that never come."""
    scores = logits - log_sum_exp(logits)
    probabilities, ids = distribution(scores, row.reply, row.settings)
    reached = probabilities.cumsum(dtype=np.float32)
    id_ = int(ids[int((reached <= row.noise[len(row.reply)] * reached[-1]).sum())])
    if row.alternatives is None:
        return Written(id_)
    best = highest(scores, row.alternatives).tolist()
    return Written(id_, float(scores[id_]), tuple((other, float(scores[other])) for other in best))


def log_sum_exp(logits: Scores) -> np.float32:
    """Return the logarithm of the sum of the exponentials."""
    largest = logits.max()
    return np.float32(largest + np.log(np.exp(logits - largest).sum()))


def distribution(scores: Scores, reply: Sequence[int], settings: GenerationSettings) -> tuple[Scores, NDArray[np.intp]]:
    """Return the processed distribution: probabilities from high to low, which need not sum to 1, and their ids.

    Args:
        scores: log-probabilities [V].
        reply: ids of the reply so far.
    """
    scores = scores.copy()
    said = np.array(list(set(reply)), np.intp)
    scores[said] *= np.float32(settings.repetition_penalty)
    scores[ruled_out(reply, settings.no_repeat_ngram_size)] = -np.inf
    ids = highest(scores, settings.top_k)
    weights = np.exp((scores[ids] - scores[ids[0]]) / np.float32(settings.temperature))
    probabilities = weights / weights.sum()
    if settings.top_p < 1:
        before = probabilities.cumsum(dtype=np.float32) - probabilities
        inside = before < np.float32(settings.top_p)
        inside[0] = True
        probabilities, ids = probabilities[inside], ids[inside]
    return probabilities, ids


def highest(scores: Scores, count: int) -> NDArray[np.intp]:
    """Return the ids of the highest scores [V] from high to low, of equal ones the lower id first; all if V is smaller.

    Scores are compared in chunks first. The `count` highest maxima of chunks are scores themselves, so no score below
    the last of them is among the highest, and few of the others remain to be sorted.
    """
    columns = len(scores) // CHUNK
    bound = np.float32(-np.inf)
    if columns >= count:
        maxima = scores[: CHUNK * columns].reshape(CHUNK, columns).max(0)
        bound = np.partition(maxima, -count)[-count]
    candidates = np.flatnonzero(~(scores < bound))  # all of them if the bound is not a number
    return candidates[np.argsort(-scores[candidates], kind="stable")[:count]]


def ruled_out(reply: Sequence[int], size: int) -> list[int]:
    """Return the ids that would end a sequence of `size` ids which the reply holds already."""
    if not size or len(reply) < size:
        return []
    if size == 1:
        return list(reply)
    last = reply[1 - size :]
    return [
        reply[end + 1]
        for end in range(size - 2, len(reply) - 1)
        if reply[end] == last[-1] and reply[end - size + 2 : end + 1] == last
    ]

"""Several ways to ask, in tokens. A *slot* is a place of a document that has wordings: a question with its role tokens.

    document   <|user|> What is DNS ? <|end|> <|assistant|> DNS turns names into addresses . <|end|>
    slot       [begin              :    end)
    wordings   <|user|> explain dns <|end|>         <|user|> dns ? <|end|>

A document is stored once, whatever the number of its wordings. Which wording an epoch takes follows from a hash, so
that nothing needs to be kept for it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

WORDING = pa.struct([("begin", pa.int32()), ("end", pa.int32()), ("ids", pa.list_(pa.int32()))])
"""How a wording is stored; the wordings of a slot follow each other."""


class Wording(NamedTuple):
    """Ids that may stand in a document in place of ids[begin:end], none of which is learned."""

    begin: int
    end: int
    ids: np.ndarray
    """int32 [tokens]"""


@dataclass(frozen=True)
class Slots:
    """The slots of all documents.

    Attributes:
        document: the document of each slot, int64 [slots], in order.
        begin, end: where it is in its document, int64 [slots].
        first: the number of its first wording, int64 [slots + 1].
        lengths, ends: tokens of each wording, and where it ends in `ids`; int64 [wordings].
        ids: the ids of all wordings, int32 [tokens].
    """

    document: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    first: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray
    ids: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Slots":
        """Return the slots of a column of lists of wordings."""
        lists = column.combine_chunks()
        counts = np.diff(lists.offsets.to_numpy())
        each = lists.flatten()
        begins, ends, ids = (each.field(name) for name in ("begin", "end", "ids"))
        document = np.repeat(np.arange(len(counts)), counts)
        begin = begins.to_numpy().astype(np.int64)
        is_new = np.ones(len(begin), np.bool_)
        is_new[1:] = (document[1:] != document[:-1]) | (begin[1:] != begin[:-1])
        first = np.flatnonzero(is_new)
        lengths = np.diff(ids.offsets.to_numpy()).astype(np.int64)
        return cls(
            document[first],
            begin[first],
            ends.to_numpy().astype(np.int64)[first],
            np.append(first, len(begin)),
            lengths,
            np.cumsum(lengths),
            ids.flatten().to_numpy(),
        )

    def chosen(self, times: int, share: float, seed: int, use: int = 0) -> list[np.ndarray]:
        """Return, for each of several times, the wording that each slot takes; -1 stands for the document's own ids.

        A slot takes its wordings in an order of its own, so that none recurs before all were taken.

        Args:
            share: how often a slot takes a wording instead of its own ids, 0 to 1.
            use: another order and other choices for each number.

        Returns:
            int64 [slots], for each time.
        """
        slots = np.arange(len(self.document), dtype=np.uint64)
        counts = np.maximum(np.diff(self.first), 1).astype(np.uint64)
        streams = (times + 2) * use
        turn = _mixed(slots, seed, streams) % counts
        stride = _coprime(_mixed(slots, seed, streams + 1), np.diff(self.first))
        made = []
        for time in range(times):
            taken = _mixed(slots, seed, streams + 2 + time) < np.uint64(share * (2.0**64 - 2048))
            made.append(np.where(taken, self.first[:-1] + turn.astype(np.int64), -1))
            turn = np.where(taken, (turn + stride) % counts, turn)
        return made

    def growth(self, chosen: np.ndarray, documents: int) -> np.ndarray:
        """Return by how many tokens each document is longer with the chosen wordings, int64 [documents]."""
        lengths = np.append(self.lengths, 0)[chosen]
        grown = np.where(chosen >= 0, lengths - (self.end - self.begin), 0)
        total: np.ndarray = np.bincount(self.document, grown, documents).astype(np.int64)
        return total

    def wordings(self, document: int, chosen: np.ndarray) -> list[Wording]:
        """Return the chosen wordings of a document, the last slot first."""
        low, high = np.searchsorted(self.document, [document, document + 1])
        return [
            Wording(int(self.begin[slot]), int(self.end[slot]), self._ids_of(int(chosen[slot])))
            for slot in range(high - 1, low - 1, -1)
            if chosen[slot] >= 0
        ]

    def _ids_of(self, wording: int) -> np.ndarray:
        return self.ids[self.ends[wording] - self.lengths[wording] : self.ends[wording]]


def _mixed(values: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """Return a hash of each value, uint64 (SplitMix64, Steele et al. 2014), another one for each seed and stream."""
    with np.errstate(over="ignore"):
        mixed: np.ndarray = values + np.uint64((seed * 0x9E3779B97F4A7C15 + stream * 0xD1342543DE82EF95) % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed


def _coprime(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return a stride for each count that visits all of them before one recurs: uint64, at least 1."""
    strides: np.ndarray = 1 + (values % np.maximum(counts - 1, 1).astype(np.uint64)).astype(np.int64)
    while (shared := np.gcd(strides, counts) > 1).any():
        strides[shared] = strides[shared] % counts[shared] + 1
    as_unsigned: np.ndarray = strides.astype(np.uint64)
    return as_unsigned

"""Near twins: texts whose sets of 4-grams of characters have at least TWIN_SIMILARITY in common (Jaccard).

Candidates share a *band*: several neighbouring values of their MinHash signatures (locality-sensitive hashing; Indyk
and Motwani 1998). With r values in a band and b bands, a pair of similarity s is found with probability
1 - (1 - s^r)^b. Few values in a band miss few pairs, and make many candidates, so r rises with the number of texts:

    texts            r    b    pairs of similarity 0.7 that are missed
    up to 10,000     2   30    none in practice
    up to 100,000    3   20    1 in 4,000
    more             4   15    1 in 60

Each candidate is compared exactly. Where the texts do not fit into memory, bands of 5 values are used, and a *sketch*,
the lowest byte of each value, says whether two texts are similar enough (Li and König 2010). One bit of each value
would not do: it takes one of ten pairs of similarity 0.4 for near twins, and there are so many of them that they chain.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from theta.corpus.fingerprints import gram_set
from theta.corpus.records import Table

TWIN_SIMILARITY = 0.7

_ROWS = ((10_000, 2), (100_000, 3), (1 << 62, 4))
"""Values in a band, by the number of texts up to which they are used."""
_LEAST_AGREEMENT = 27
"""Of SIGNATURE_SIZE values, a pair of similarity 0.7 agrees in 42 on average, and in fewer than 27 once in 50,000."""
_NEIGHBOURS = 64
"""In a band that very many texts share, each is compared with so many; transitivity ties the rest."""
_CANDIDATES_AT_ONCE = 1 << 20

_PAIRS_AT_ONCE = 1 << 16

LARGE_ROWS = 5

_LEAST_EQUAL_BYTES = 37
"""Of SIGNATURE_SIZE bytes, texts of similarity 0.7 share 42 on average (standard deviation 3.5), those of 0.5 share 30
and those of 0.4 share 24."""


def band_keys(signatures: np.ndarray, rows: int) -> np.ndarray:
    """Return a key for each band of each signature, uint64 [texts, bands]."""
    bands = signatures.shape[1] // rows
    values = signatures[:, : bands * rows].reshape(len(signatures), bands, rows).astype(np.uint64)
    keys = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15), values.shape[:2])
    for row in range(rows):
        keys = (keys ^ values[:, :, row]) * np.uint64(0xD6E8FEB86659FD93)
        keys ^= keys >> np.uint64(32)
    return np.asarray(keys)


def sketches(signatures: np.ndarray) -> np.ndarray:
    """Return the lowest byte of each value of each signature, uint8 [texts, SIGNATURE_SIZE]."""
    return signatures.astype(np.uint8)


def are_similar(sketches: Table, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return whether the sketches of two texts are those of near twins, bool [pairs].

    Args:
        sketches: a row for each text, whose `values` are uint8 [SIGNATURE_SIZE].
        ones, others: the numbers of the texts of each pair.
    """
    similar = np.empty(len(ones), np.bool_)
    for begin in range(0, len(ones), _PAIRS_AT_ONCE):
        part = slice(begin, begin + _PAIRS_AT_ONCE)
        one, other = sketches.take(ones[part])["values"], sketches.take(others[part])["values"]
        similar[part] = (one == other).sum(1) >= _LEAST_EQUAL_BYTES
    return similar


def pairs(signatures: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Return pairs of near twins that tie all near twins together, int64 [pairs, 2].

    Not every pair is returned: two texts that are tied through others already are not compared.

    Args:
        signatures: uint32 [texts, SIGNATURE_SIZE].
        texts: the same texts.
    """
    rows = next(rows for most, rows in _ROWS if len(texts) <= most)
    parent = list(range(len(texts)))
    grams: dict[int, set[str]] = {}
    found = []
    for one, other in _candidates(signatures, rows):
        root, other_root = _root(parent, one), _root(parent, other)
        if root != other_root and _are_twins(texts, grams, one, other):
            parent[max(root, other_root)] = min(root, other_root)
            found.append((one, other))
    return np.array(found, np.int64).reshape(-1, 2)


def across(signatures: np.ndarray, texts: Sequence[str], is_held: np.ndarray) -> list[int]:
    """Return the held-out texts that have a near twin among the others.

    Args:
        signatures: uint32 [texts, SIGNATURE_SIZE].
        texts: the same texts.
        is_held: whether a text is held out, bool [texts].
    """
    rows = next(rows for most, rows in _ROWS if len(texts) <= most)
    grams: dict[int, set[str]] = {}
    found: set[int] = set()
    for one, other in _candidates(signatures, rows):
        held = one if is_held[one] else other
        if is_held[one] != is_held[other] and held not in found and _are_twins(texts, grams, one, other):
            found.add(held)
    return sorted(found)


def _candidates(signatures: np.ndarray, rows: int) -> list[tuple[int, int]]:
    """Pairs that share a band and agree in enough of their signatures, the most similar first."""
    keys = band_keys(signatures, rows)
    codes, agreements = [], []
    for band in range(keys.shape[1]):
        for ones, others in _sharing(keys[:, band]):
            agreement = (signatures[ones] == signatures[others]).sum(1)
            enough = agreement >= _LEAST_AGREEMENT
            codes.append(ones[enough] * len(signatures) + others[enough])
            agreements.append(agreement[enough])
    if not codes:
        return []
    unique, first = np.unique(np.concatenate(codes), return_index=True)
    order = np.argsort(-np.concatenate(agreements)[first], kind="stable")
    ones, others = np.divmod(unique[order], len(signatures))
    return list(zip(ones.tolist(), others.tolist(), strict=True))


def _sharing(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of texts with the same key, the smaller number first."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    for distance in range(1, _NEIGHBOURS + 1):
        same = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not len(same):
            return
        for begin, end in pairwise([*range(0, len(same), _CANDIDATES_AT_ONCE), len(same)]):
            part = same[begin:end]
            yield order[part], order[part + distance]


def _root(parent: list[int], text: int) -> int:
    while parent[text] != text:
        parent[text] = parent[parent[text]]
        text = parent[text]
    return text


def _are_twins(texts: Sequence[str], grams: dict[int, set[str]], one: int, other: int) -> bool:
    for text in (one, other):
        if text not in grams:
            grams[text] = gram_set(texts[text])
    common = len(grams[one] & grams[other])
    return common >= TWIN_SIMILARITY * (len(grams[one]) + len(grams[other]) - common)

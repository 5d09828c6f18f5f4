"""Groups of conversations are those that one pair after the other unites."""

import numpy as np
import pytest

from theta.corpus import groups, records


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("chunk_rows", [4, 1000])
def test_groups_are_united_as_one_pair_after_the_other_unites_them(
    seed: int, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "CHUNK_ROWS", chunk_rows)
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    ones, others = rng.integers(0, count, (2, int(rng.integers(0, 60)))).astype(np.uint32)
    slowly = list(range(count))
    for one, other in zip(ones, others, strict=True):
        low, high = sorted((slowly[one], slowly[other]))
        slowly = [low if group == high else group for group in slowly]
    up = groups.alone(count)
    for part in np.array_split(np.arange(len(ones)), 3):
        groups.unite(up, ones[part], others[part])
    assert groups.firsts(up, np.arange(count)).tolist() == slowly
    groups.settle(up)
    assert up.tolist() == slowly
    members = rng.random(count) < 0.5
    members = members[slowly]  # no group holds both
    numbers = {first: number for number, first in enumerate(sorted(set(np.array(slowly)[members].tolist())))}
    assert groups.number(up, members) == len(numbers)
    assert up.tolist() == [numbers[first] if is_in else -1 for first, is_in in zip(slowly, members, strict=True)]


def test_long_chains_of_pairs_are_one_group() -> None:
    order = np.random.default_rng(0).permutation(20_000)
    up = groups.alone(20_000)
    groups.unite(up, order[:-1], order[1:])
    groups.settle(up)
    assert not up.any()

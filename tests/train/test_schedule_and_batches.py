"""The learning rate as a table; which documents each step sees."""

from itertools import chain

import numpy as np
import pytest

from theta.optim.schedule import learning_rate_factor
from theta.train.batches import rehearsal_slices, steps_of


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.5), (1, 1.0), (2, 1.0), (3, 0.1 + 0.9 * 0.75), (4, 0.1 + 0.9 * 0.25), (5, 0.1)],
)
def test_warmup_then_cosine(step: int, factor: float) -> None:
    found = learning_rate_factor(step, steps=6, warmup_steps=2, final_fraction=0.1)
    assert found == pytest.approx(factor)


def test_without_warmup_it_starts_at_the_peak() -> None:
    assert learning_rate_factor(0, steps=1, warmup_steps=0, final_fraction=0.0) == 1.0


def test_every_document_is_seen_once_an_epoch_and_steps_are_full() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, size=200)
    steps = steps_of([range(200)] * 3, lengths.tolist(), tokens_per_step=512, seed=0)
    order = [document for step in steps for document in step]
    assert sorted(order) == sorted(3 * list(range(200)))
    shift = 15  # a document that did not fit follows a step later
    for epoch in range(3):
        inner = order[epoch * 200 + shift : (epoch + 1) * 200 - shift]
        assert len(set(inner)) == len(inner)
    assert order[:200] != order[200:400]
    sums = [int(lengths[step].sum()) for step in steps]
    assert max(sums) <= 512
    assert min(sums[:-1]) > 512 - 100
    assert np.mean(sums[:-2]) > 0.97 * 512  # 0.9 if a step ended with the first document that does not fit


def test_a_document_as_long_as_a_step_waits_for_no_other() -> None:
    steps = steps_of([range(4)], [100, 100, 3, 100], tokens_per_step=100, seed=0)
    assert sorted(map(sorted, steps)) == [[0], [1], [2], [3]]


def test_the_order_depends_on_the_seed_alone() -> None:
    lengths = [10] * 50
    one, two, other = (steps_of([range(50)], lengths, tokens_per_step=100, seed=seed) for seed in (1, 1, 2))
    assert one == two != other


OWN, OTHERS = [10] * 30, [7, 11, 13] * 20


def steps_with_rehearsal(epochs: int, *, seed: int, share: float) -> list[list[int]]:
    lengths, others = [*OWN, *OTHERS], range(len(OWN), len(OWN) + len(OTHERS))
    return steps_of(
        [range(len(OWN))] * epochs, lengths, tokens_per_step=64, seed=seed, rehearsal=others, rehearsal_share=share
    )


@pytest.mark.parametrize("share", [0.25, 0.5, 2.0])
def test_each_epoch_gets_its_share_of_rehearsal_and_all_is_used_before_any_recurs(share: float) -> None:
    epochs = 8
    slices = rehearsal_slices(OTHERS, share * sum(OWN), seed=0)
    found = [next(slices) for _ in range(epochs)]
    for documents in found:
        assert abs(sum(OTHERS[each] for each in documents) - share * sum(OWN)) < max(OTHERS)
    order = list(chain(*found))
    rounds = [order[begin : begin + len(OTHERS)] for begin in range(0, len(order), len(OTHERS))]
    assert all(sorted(each) == list(range(len(OTHERS))) for each in rounds[:-1])
    assert len(set(rounds[-1])) == len(rounds[-1])
    assert len(rounds) < 2 or rounds[0] != rounds[1]
    steps = steps_with_rehearsal(epochs, seed=0, share=share)
    wanted = [*range(len(OWN))] * epochs + [len(OWN) + each for each in order]
    assert sorted(chain(*steps)) == sorted(wanted)


def test_rehearsal_is_shuffled_into_its_epoch() -> None:
    steps = steps_of(
        [range(100)] * 2, [10] * 200, tokens_per_step=10, seed=0, rehearsal=range(100, 200), rehearsal_share=1.0
    )
    order = list(chain(*steps))
    for begin in (0, 200):
        epoch = order[begin : begin + 200]
        assert sorted(epoch) == list(range(200))
        assert 30 < sum(each >= 100 for each in epoch[:100]) < 70


def test_rehearsal_depends_on_the_seed_alone() -> None:
    one, two, other = (steps_with_rehearsal(2, seed=seed, share=0.5) for seed in (1, 1, 2))
    assert one == two != other


@pytest.mark.parametrize(("others", "share"), [([], 0.0), ([], 0.5), (OTHERS, 0.0)])
def test_without_rehearsal_the_order_is_that_of_the_seed_and_the_epoch(others: list[int], share: float) -> None:
    lengths, rehearsal = [10] * 30 + others, range(30, 30 + len(others))
    steps = steps_of([range(30)] * 2, lengths, tokens_per_step=10, seed=5, rehearsal=rehearsal, rehearsal_share=share)
    orders = [np.random.default_rng([5, epoch]).permutation(30).tolist() for epoch in range(2)]
    assert list(chain(*steps)) == list(chain(*orders))

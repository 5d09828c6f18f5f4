"""The learning rate as a table; which documents each step sees."""

import numpy as np
import pytest

from theta.train.batches import steps_of
from theta.train.schedule import learning_rate_factor


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
    steps = steps_of(lengths, tokens_per_step=512, epochs=3, seed=0)
    order = [document for step in steps for document in step]
    assert sorted(order) == sorted(3 * list(range(200)))
    shift = 15  # a document that did not fit comes a step later
    for epoch in range(3):
        inner = order[epoch * 200 + shift : (epoch + 1) * 200 - shift]
        assert len(set(inner)) == len(inner)
    assert order[:200] != order[200:400]
    sums = [int(lengths[step].sum()) for step in steps]
    assert max(sums) <= 512
    assert min(sums[:-1]) > 512 - 100
    assert np.mean(sums[:-2]) > 0.97 * 512  # 0.9 if a step ended with the first document that does not fit


def test_a_document_as_long_as_a_step_waits_for_no_other() -> None:
    steps = steps_of([100, 100, 3, 100], tokens_per_step=100, epochs=1, seed=0)
    assert sorted(map(sorted, steps)) == [[0], [1], [2], [3]]


def test_the_order_depends_on_the_seed_alone() -> None:
    lengths = [10] * 50
    one, two, other = (steps_of(lengths, tokens_per_step=100, epochs=1, seed=seed) for seed in (1, 1, 2))
    assert one == two != other

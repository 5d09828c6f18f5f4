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


def test_every_document_once_an_epoch_and_no_step_too_long() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, size=200)
    steps = steps_of(lengths, tokens_per_step=512, epochs=3, seed=0)
    order = [document for step in steps for document in step]
    for epoch in range(3):
        assert sorted(order[epoch * 200 : (epoch + 1) * 200]) == list(range(200))
    assert order[:200] != order[200:400]
    sums = [int(lengths[step].sum()) for step in steps]
    assert max(sums) <= 512
    assert min(sums[:-1]) > 512 - 100


def test_the_order_depends_on_the_seed_alone() -> None:
    lengths = [10] * 50
    one, two, other = (steps_of(lengths, tokens_per_step=100, epochs=1, seed=seed) for seed in (1, 1, 2))
    assert one == two != other

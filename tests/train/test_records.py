"""Curves and figures of a run: losses are sums over counts, and rehearsal is counted separately."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import SETTINGS, new_run
from theta.train.loop import train
from theta.train.records import learned_little, log_curves, loss_of, report
from theta.train.settings import TrainSettings


def settings(**changes: Any) -> TrainSettings:
    return SETTINGS.model_copy(update=changes)


def step(
    number: int, nats: float, tokens: int, rehearsal: tuple[float, int] = (0.0, 0), steps: int = 4
) -> dict[str, Any]:
    return {
        "kind": "step",
        "step": number,
        "steps": steps,
        "nats": nats,
        "learned_tokens": tokens,
        "rehearsal_nats": rehearsal[0],
        "rehearsal_learned_tokens": rehearsal[1],
        "tokens": 2 * tokens,
        "rehearsal_tokens": rehearsal[1],
        "learning_rate": 1e-3,
        "gradient_norm": 1.0,
        "seconds": 1.0,
    }


def validation(number: int, loss: float) -> dict[str, Any]:
    return {"kind": "validation", "step": number, "loss": loss}


def test_a_loss_is_a_sum_over_a_count() -> None:
    steps = [step(1, nats=10.0, tokens=10), step(2, nats=90.0, tokens=30, rehearsal=(8.0, 2))]
    assert loss_of(steps) == 2.5, "the mean of the means would be 2.0"
    assert loss_of(steps, "rehearsal_") == 4.0
    assert loss_of(steps[:1], "rehearsal_") is None


def test_the_report_separates_data_and_rehearsal() -> None:
    records = [step(1, 50.0, 10), validation(1, 4.0), step(2, 20.0, 10, (12.0, 4)), validation(2, 3.0)]
    records += [step(3, 90.0, 30, (4.0, 4)), validation(3, 3.5), step(4, 10.0, 10), validation(4, 3.25)]
    figures = report(records, settings(epochs=2, keep="best"), validation_loss=3.125)
    assert (figures["train_loss"], figures["rehearsal_loss"]) == (2.5, 1.0)
    assert (figures["validation_loss"], figures["trained_validation_loss"]) == (3.125, 3.0)
    assert (figures["best_validation_loss"], figures["kept_step"]) == (3.0, 2)
    assert figures["settings"] == {
        "epochs": 2, "tokens_per_step": 128, "learning_rate": 1e-2, "warmup_fraction": 0.1, "dropout": 0.1,
        "rehearsal_share": 0.0, "base_share": 0.0, "keep": "best",
    }  # fmt: skip
    without = report(records[:2], settings(epochs=1, keep="last"), validation_loss=4.0)
    assert "rehearsal_loss" not in without


def run_of(steps: int, first: float, last: float) -> dict[str, Any]:
    losses = [first + (last - first) * number / (steps - 1 or 1) for number in range(steps)]
    records = [step(number, 10 * loss, 10, steps=steps) for number, loss in enumerate(losses, start=1)]
    return report([*records, validation(steps, last)], settings(epochs=steps), validation_loss=last)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (
            run_of(1, 5.0, 5.0),
            r"only 1 time, .*lower train.tokens_per_step \(128\), raise train.epochs \(3\)",
        ),
        (run_of(29, 5.0, 0.1), r"updated only 29 times"),
        (run_of(100, 5.3, 5.2), r"hardly moved, from 5.29. to 5.200 .*raise train.learning_rate \(0.01\)"),
    ],
    ids=["one", "few", "flat"],
)
def test_a_run_that_learned_little_is_said_with_the_remedy(figures: dict[str, Any], words: str) -> None:
    assert re.search(words, str(learned_little(figures, settings())))


def test_a_run_that_learned_is_not_warned_of() -> None:
    assert learned_little(run_of(100, 5.0, 0.1), settings()) is None
    assert learned_little({**run_of(20, 5.0, 0.1), "stopped_early": True}, settings()) is None, "asked for patience"


def test_what_a_step_reports_adds_up(tmp_path: Path) -> None:
    records = [each for each in train(new_run(tmp_path, rehearsal_share=0.5)) if each["kind"] == "step"]
    assert any(each["rehearsal_learned_tokens"] for each in records)
    for each in records:
        tokens = each["learned_tokens"] + each["rehearsal_learned_tokens"]
        assert (each["nats"] + each["rehearsal_nats"]) / tokens == pytest.approx(each["loss"], rel=1e-5)
        assert (each["nats"] > 0) == (each["learned_tokens"] > 0)
        assert (each["rehearsal_nats"] > 0) == (each["rehearsal_learned_tokens"] > 0)


def test_rehearsal_that_is_as_hard_as_the_data_has_the_same_loss(tmp_path: Path) -> None:
    """Both are drawn alike, and at the start nothing is learned."""
    first = next(train(new_run(tmp_path, rehearsal_share=1.0, tokens_per_step=512)))
    data, rehearsal = loss_of([first]), loss_of([first], "rehearsal_")
    assert data == pytest.approx(4.2, rel=0.15)
    assert rehearsal == pytest.approx(data, rel=0.15)


def points(folder: Path, name: str) -> list[list[float]]:
    lines = (folder / "plots" / "metrics" / f"{name}.tsv").read_text().splitlines()
    assert lines[0].split("\t")[0] == "step"
    return [[float(cell) for cell in line.split("\t")] for line in lines[1:]]


@pytest.mark.slow
def test_the_last_steps_are_drawn_after_an_early_stop(tmp_path: Path) -> None:
    """A point stands for two steps of 800; the ninth is the last."""
    records = [step(number, nats=10.0 * number, tokens=10, steps=800) for number in range(1, 10)]
    assert list(log_curves(records, tmp_path)) == records
    assert points(tmp_path, "train/loss") == [[2, 1.5], [4, 3.5], [6, 5.5], [8, 7.5], [9, 9]]


def test_a_point_of_rehearsal_alone_has_no_loss(tmp_path: Path) -> None:
    records = [step(1, 0.0, 0, (4.0, 2)), step(2, 10.0, 10)]
    list(log_curves(records, tmp_path))
    assert points(tmp_path, "train/loss") == [[2, 1.0]]
    assert len(points(tmp_path, "train/gradient_norm")) == 2

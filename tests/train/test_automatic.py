"""`auto` becomes a value by the base and the amount of data, and by nothing else."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from theta.bases import descriptors
from theta.errors import SettingsError
from theta.settings import load, read
from theta.train.automatic import (
    LEAST_TOKENS_PER_STEP,
    NEW,
    PRETRAINED,
    Amount,
    Kind,
    automatic,
    kind_of,
    learning_rate_warning,
    resolve,
    table,
)
from theta.train.settings import TrainSection, TrainSettings

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = Amount(documents=589, tokens=52_683, longest=512, shown_again=0.81)
SMALL, MEDIUM = PRETRAINED[0], PRETRAINED[2]


def section(**changes: Any) -> TrainSection:
    return TrainSection(**{**read(ROOT / "params.yaml")["train"], **changes})


def kind(base: str) -> Kind:
    described = {"kind": base.partition(":")[0], "fine_tuned": False}
    return kind_of(described, descriptors.parameters(descriptors.shape(base)))


def test_the_shipped_settings_are_automatic() -> None:
    names = (
        "epochs",
        "tokens_per_step",
        "learning_rate",
        "warmup_fraction",
        "dropout",
        "rehearsal_share",
        "base_share",
    )
    assert automatic(section()) == [*names, "keep"]
    assert set(automatic(section())) == set(TrainSettings.__annotations__)


def test_the_shipped_run() -> None:
    """The settings that the shipped run was measured with (docs/decisions.md)."""
    found = resolve(section(), kind(str(ROOT / "models" / "starter")), SHIPPED)
    assert (found.learning_rate, found.epochs, found.tokens_per_step, found.keep) == (1e-3, 8, 1024, "last")
    assert (found.rehearsal_share, found.base_share, found.dropout, found.warmup_fraction) == (0.1, 0.05, 0.0, 0.05)


@pytest.mark.parametrize(
    ("base", "learning_rate"),
    [("gpt2", 6e-5), ("gpt2-medium", 3e-5), ("gpt2-large", 2.5e-5), ("gpt2-xl", 2e-5), ("scratch:mini", 3e-3)],
)
def test_larger_bases_learn_more_slowly(base: str, learning_rate: float) -> None:
    assert resolve(section(), kind(base), SHIPPED).learning_rate == learning_rate


def test_a_small_model_that_theta_has_fine_tuned_learns_more_slowly_than_the_starter(tmp_path: Path) -> None:
    """The starter brings its rehearsal, which tells it from its releases."""
    release = shutil.copytree(ROOT / "models" / "starter", tmp_path / "release")
    (release / "rehearsal.jsonl").unlink()
    found = [descriptors.resolve(str(folder), None, 0, ())[0] for folder in (ROOT / "models" / "starter", release)]
    assert [each["fine_tuned"] for each in found] == [False, True]
    kinds = [kind_of(each, descriptors.parameters(each)) for each in found]
    assert [resolve(section(), each, SHIPPED).learning_rate for each in kinds] == [1e-3, 3e-4]


def test_a_new_model_has_nothing_to_keep_and_reads_its_data_more_often() -> None:
    found = resolve(section(), NEW, SHIPPED)
    assert (found.rehearsal_share, found.base_share, found.epochs, found.keep) == (0.0, 0.0, 40, "last")


@pytest.mark.parametrize("base", [NEW, *PRETRAINED], ids=lambda kind: kind.name)
@pytest.mark.parametrize("documents", [1, 50, 100, 101, 1_000, 100_000, 10_000_000])
def test_every_amount_of_data_gets_enough_updates(base: Kind, documents: int) -> None:
    amount = Amount(documents, 60 * documents, 512)
    found = resolve(section(), base, amount)
    assert found.tokens_per_step >= amount.longest
    updates = found.epochs * amount.tokens / found.tokens_per_step
    assert updates >= base.updates or found.tokens_per_step == LEAST_TOKENS_PER_STEP


def test_a_few_documents_are_read_until_there_are_enough_updates() -> None:
    """The starter learned 60 answers in 160 updates; at the low rates of larger bases it takes more."""
    sixty = Amount(documents=54, tokens=2_448, longest=512)
    assert [resolve(section(), base, sixty).epochs for base in (SMALL, MEDIUM)] == [32, 105]
    assert resolve(section(), MEDIUM, Amount(1, 40, 512)).epochs == 200


@pytest.mark.parametrize(("documents", "epochs"), [(50, (32, 26)), (1_000, (10, 8)), (20_000, (3, 3))])
def test_where_an_epoch_shows_documents_again_fewer_are_enough(documents: int, epochs: tuple[int, int]) -> None:
    amounts = (Amount(documents, 100 * documents, 512, shown_again=share) for share in (0.4, 0.6))
    assert tuple(resolve(section(), SMALL, amount).epochs for amount in amounts) == epochs


def test_a_step_holds_the_longest_document() -> None:
    assert resolve(section(), SMALL, Amount(10, 9_000, longest=1_500)).tokens_per_step == 1_500


def test_what_is_set_stays_and_decides_about_the_rest() -> None:
    found = resolve(section(learning_rate=1e-5, epochs=2), SMALL, SHIPPED)
    assert (found.learning_rate, found.epochs, found.keep) == (1e-5, 2, "best")
    assert resolve(section(lora_rank=16), MEDIUM, SHIPPED).learning_rate == pytest.approx(3e-4)


def test_the_table_says_what_was_chosen_and_what_was_set() -> None:
    chosen = section(epochs=5)
    lines = list(table(chosen, resolve(chosen, SMALL, SHIPPED)))
    assert "  epochs           5        set in params.yaml" in lines
    assert "  learning_rate    0.001    auto" in lines
    assert len(lines) == len(TrainSettings.__annotations__)


@pytest.mark.parametrize(
    ("rate", "base", "effect"),
    [(1e-5, SMALL, "hardly learns"), (1e-3, MEDIUM, "forgets"), (1e-3, SMALL, None), ("auto", MEDIUM, None)],
)
def test_a_rate_far_from_the_table_is_warned_of(rate: float | str, base: Kind, effect: str | None) -> None:
    warning = learning_rate_warning(section(learning_rate=rate), base)
    assert (warning is None) if effect is None else (warning is not None and effect in warning)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("learning_rate", 7, "must be above 0 and at most 1, or 'auto'"),
        ("learning_rate", "fast", "expected a valid number or 'auto'"),
        ("keep", "first", "expected 'best' or 'last' or 'auto'"),
        ("dropout", 1.0, "must be at least 0 and below 1, or 'base', or 'auto'"),
    ],
)
def test_a_setting_is_auto_or_a_value_in_its_range(tmp_path: Path, name: str, value: object, words: str) -> None:
    lines = [f"  {key}: {value if key == name else written}" for key, written in section().model_dump().items()]
    (tmp_path / "params.yaml").write_text("\n".join(["train:", *lines]))
    with pytest.raises(SettingsError, match=rf"train\.{name} is .*{words}\."):
        load(tmp_path / "params.yaml", "train", TrainSection)

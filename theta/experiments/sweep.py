"""Sweeps: the pipeline with every combination of some settings, of which the hopeless stop early.

Successive halving (Jamieson & Talwalkar 2016, with a factor of 3, as in Hyperband): all combinations run for a small
part of their epochs, the best third of them for three times as many, and so on, until the last ones run in full. Each
run is a whole one with a schedule of its own, so the runs of a round compare fairly. DVC's queue runs them. A run that
was made before counts.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from theta.errors import SettingsError
from theta.evaluate.plots import Chart, bars
from theta.files import digest
from theta.project import queue
from theta.project.results import experiments, find
from theta.project.tools import git
from theta.settings import read

FACTOR = 3
EPOCHS = "train.epochs"
CRITERIA = {
    "evaluate.answers.new_wordings.share": True,
    "evaluate.answers.trained.share": True,
    "train.validation_loss": False,
}
"""Figures by which runs are ranked, and whether more is better. Without another choice, the first that all have."""

Settings = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a sweep.

    Attributes:
        name: of the experiment.
        combination: the settings of the sweep.
        epochs: how many it runs; None for those of params.yaml, which are `auto`.
        is_full: whether it runs all of its epochs.
    """

    name: str
    combination: Settings
    epochs: int | None
    is_full: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run: its figures, None if it failed."""

    run: Run
    metrics: Mapping[str, Any] | None


def grid(words: Sequence[str]) -> list[Settings]:
    """Return all combinations of values such as ["train.epochs=2,4", "train.learning_rate=1e-5,3e-5"].

    Raises:
        SettingsError: a word is not of this form, or names a setting twice.
    """
    values: dict[str, list[str]] = {}
    for word in words:
        key, _, listed = word.partition("=")
        if not all([*key.split("."), *listed.split(",")]) or "." not in key or key in values:
            raise SettingsError(f"{word!r} is not SECTION.KEY=VALUE,VALUE, or repeats a key; write train.epochs=2,4.")
        values[key] = listed.split(",")
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def rounds(combinations: int, *, early: bool) -> list[tuple[int, int]]:
    """Return for each round the number of runs, and by what their epochs are divided; the last one divides by 1.

    Args:
        combinations: their number.
        early: whether the hopeless stop early.
    """
    last = math.ceil(math.log(combinations, FACTOR) - 1e-9) if early and combinations > 2 else 0
    return [(math.ceil(combinations / FACTOR**number), FACTOR ** (last - number)) for number in range(last + 1)]


def sweep(
    root: Path, combinations: Sequence[Settings], *, jobs: int, early: bool, criterion: str | None
) -> Iterator[Mapping[str, str] | list[Result]]:
    """Run a sweep; yield the states of the runs of a round now and then, and the results when it has ended.

    The last list that is yielded has the results of the last round, the best first.

    Raises:
        SettingsError: no run has the figure of the criterion.
        ProjectError: DVC or git refuses.
    """
    usual = read(root / "params.yaml").get("train", {}).get("epochs")
    remaining = list(combinations)
    plan = rounds(len(remaining), early=early and all(_epochs(each, usual) for each in remaining))
    for count, divisor in plan:
        runs = [_run(root, each, _epochs(each, usual), divisor) for each in remaining[:count]]
        names = [each.name for each in runs]
        try:
            _queue(root, runs)
            yield from queue.wait(root, names, jobs)
        except (KeyboardInterrupt, GeneratorExit):
            queue.stop(root, names)
            raise
        done = experiments(root)
        results = [Result(run, find(root, run.name).metrics if run.name in done else None) for run in runs]
        ranked = rank(results, criterion)
        yield ranked
        remaining = [each.run.combination for each in ranked]


def rank(results: Sequence[Result], criterion: str | None) -> list[Result]:
    """Return the results with the best first; those that failed are last.

    Raises:
        SettingsError: no run has the figure.
    """
    name = criterion_of(results, criterion)
    sign = -1 if CRITERIA.get(name, "loss" not in name) else 1
    values = [figure(each, name) for each in results]
    order = sorted(range(len(results)), key=lambda place: math.inf if (v := values[place]) is None else sign * v)
    return [results[place] for place in order]


def criterion_of(results: Sequence[Result], criterion: str | None) -> str:
    """Return the figure by which the results are ranked.

    Raises:
        SettingsError: no run has it.
    """
    finished = [each for each in results if each.metrics is not None]
    names = [criterion] if criterion else list(CRITERIA)
    for name in names:
        if all(figure(each, name) is not None for each in finished):
            return name
    raise SettingsError(f"The runs have no figure {' or '.join(names)}; `theta compare` shows their names.")


def figure(result: Result, name: str) -> float | None:
    """Return a figure of a run; None if the run failed, or has no such figure."""
    value = (result.metrics or {}).get(name)
    return value if isinstance(value, int | float) else None


def chart(results: Sequence[Result], criterion: str) -> Chart:
    """Draw the figure that ranks the results as a bar for each, in their order."""
    rows = {_label(each.run): [figure(each, criterion)] for each in results}
    return bars("Runs of the sweep", [criterion], rows, "{:.4g}")


def plot_name(combinations: Sequence[Settings]) -> str:
    """Return a name for the plot of a sweep, after its settings: sweep-learning_rate-epochs.svg."""
    return f"{_as_name('-'.join(['sweep', *map(_short, combinations[0])]))}.svg"


def _label(run: Run) -> str:
    settings = {**run.combination, **({} if run.epochs is None else {EPOCHS: run.epochs})}
    return ", ".join(f"{_short(key)} {value}" for key, value in settings.items())


def _short(key: str) -> str:
    return key.partition(".")[2]


def _epochs(settings: Settings, usual: Any) -> int | None:
    value = settings.get(EPOCHS, str(usual))
    return int(value) if value.isdecimal() else None


def _run(root: Path, settings: Settings, epochs: int | None, divisor: int) -> Run:
    part = None if epochs is None else math.ceil(epochs / divisor)
    changed = {**settings, EPOCHS: str(part)} if part is not None else dict(settings)
    words = "-".join(f"{_short(key)}-{value}" for key, value in changed.items())
    # The same name only for the same settings, commit and changes: then an earlier result counts.
    state = digest([changed, git(root, "rev-parse", "HEAD"), git(root, "diff", "HEAD", "--", ".")])[:6]
    return Run(f"{_as_name(words)}-{state}", settings, part, part == epochs)


def _as_name(words: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in words)[:60].strip("-.")


def _queue(root: Path, runs: Sequence[Run]) -> None:
    """Queue the runs that have no result and do not wait already."""
    known, done = queue.states(root), experiments(root)
    for run in runs:
        if run.name not in done and known.get(run.name) not in queue.WAITING:
            settings = {**run.combination, **({} if run.epochs is None else {EPOCHS: str(run.epochs)})}
            queue.add(root, run.name, settings)

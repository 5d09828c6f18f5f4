from pathlib import Path

import pytest

from tests.support.project import git, run, tree
from theta.errors import ProjectError, SettingsError
from theta.experiments import sweep as sweeps
from theta.experiments.sweep import Result, Run, grid, rank, rounds
from theta.project import queue
from theta.project.results import experiments


def test_a_grid_has_every_combination() -> None:
    assert grid(["train.epochs=2,4", "train.learning_rate=1e-5"]) == [
        {"train.epochs": "2", "train.learning_rate": "1e-5"},
        {"train.epochs": "4", "train.learning_rate": "1e-5"},
    ]


@pytest.mark.parametrize("words", [["epochs=2"], ["train.epochs"], ["train.epochs=2,"], ["a.b=1", "a.b=2"], ["=1"]])
def test_a_grid_that_is_none_is_refused(words: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"is not SECTION.KEY=VALUE"):
        grid(words)


@pytest.mark.parametrize(
    ("combinations", "early", "expected"),
    [
        (1, True, [(1, 1)]),
        (2, True, [(2, 1)]),
        (3, True, [(3, 3), (1, 1)]),
        (4, True, [(4, 9), (2, 3), (1, 1)]),
        (9, True, [(9, 9), (3, 3), (1, 1)]),
        (27, True, [(27, 27), (9, 9), (3, 3), (1, 1)]),
        (9, False, [(9, 1)]),
    ],
)
def test_a_third_goes_on_for_three_times_as_long(
    combinations: int, early: bool, expected: list[tuple[int, int]]
) -> None:
    assert rounds(combinations, early=early) == expected


def result(name: str, **metrics: float) -> Result:
    found = {key.replace("__", "."): value for key, value in metrics.items()}
    return Result(Run(name, {}, 1, True), found or None)


def test_answers_count_upwards_and_losses_downwards() -> None:
    share = "evaluate__answers__trained__share"
    runs = [result("a", **{share: 0.5}, x__loss=2), result("b", **{share: 0.9}, x__loss=3), result("failed")]
    assert [each.run.name for each in rank(runs, None)] == ["b", "a", "failed"]
    assert [each.run.name for each in rank(runs, "x.loss")] == ["a", "b", "failed"]
    with pytest.raises(SettingsError, match=r"have no figure evaluate.chrf"):
        rank(runs, "evaluate.chrf")


def test_a_plot_shows_every_run_and_says_which_failed() -> None:
    runs = [
        Result(Run("a", {"train.learning_rate": "1e-3"}, 3, True), {"x.loss": 2.0}),
        Result(Run("b", {"train.learning_rate": "1e-2"}, None, True), None),
    ]
    drawn = sweeps.chart(runs, "x.loss")
    assert drawn.description == "learning_rate 1e-3, epochs 3: x.loss 2; learning_rate 1e-2: x.loss not measured."
    assert [width > 0 for *_, width, _ in drawn.bars] == [True, False]
    assert sweeps.plot_name(grid(["train.epochs=2", "data.path=a"])) == "sweep-epochs-path.svg"


@pytest.mark.slow
def test_a_sweep_ends_with_the_best_and_starts_nothing_twice(project: Path) -> None:
    before = tree(project)
    combinations = grid(["train.seconds=0.3,0.1,0.2"])
    states = list(sweeps.sweep(project, combinations, jobs=1, early=True, criterion=None))
    lists = [state for state in states if isinstance(state, list)]
    assert [[each.run.combination["train.seconds"] for each in ranked] for ranked in lists] == [
        ["0.1", "0.2", "0.3"],
        ["0.1"],
    ]
    assert [[each.run.epochs for each in ranked] for ranked in lists] == [[2, 2, 2], [4]]
    assert [each.run.is_full for each in lists[-1]] == [True]
    assert {name: content for name, content in tree(project).items() if name != "started"} == before
    assert len(experiments(project)) == 4
    assert git(project, "stash", "list") == ""
    shown = run(project, "theta", "sweep", "train.seconds=0.3,0.1,0.2").stdout.splitlines()
    assert len(experiments(project)) == 4
    rows = [line.split("\t")[:4] for line in shown[-6:-2]]
    assert rows == [
        ["train.seconds", "train.epochs", "train.validation_loss", "plot"],
        ["0.1", "4", "0.1", "█" * 7],
        ["0.2", "2", "0.2", "█" * 13],
        ["0.3", "2", "0.3", "█" * 20],
    ]
    assert shown[-2] == "Plot: dvc_plots/sweep-seconds.svg"
    plot = (project / "dvc_plots/sweep-seconds.svg").read_text()
    assert "<desc>seconds 0.1, epochs 4: train.validation_loss 0.1; seconds 0.2, epochs 2: " in plot
    assert shown[-1].startswith("Best: seconds-0.1-epochs-4-")


@pytest.mark.slow
def test_what_is_stopped_leaves_the_queue(project: Path) -> None:
    for name, seconds in (("a", "60"), ("b", "61")):
        queue.add(project, name, {"train.seconds": seconds})
    assert queue.states(project) == {"a": "Queued", "b": "Queued"}
    for states in queue.wait(project, ["a", "b"], 1):
        if "Running" in states.values() and (project / "started").exists():
            break
    queue.stop(project, ["a", "b"])
    for states in queue.wait(project, ["a", "b"], 1):
        assert "Queued" not in states.values()
    assert experiments(project) == {}


@pytest.mark.slow
def test_a_setting_that_does_not_exist_is_one_line(project: Path) -> None:
    with pytest.raises(ProjectError, match=r"dvc exp run --queue.*failed") as caught:
        queue.add(project, "a", {"train.second": "1"})
    assert "\n" not in str(caught.value)

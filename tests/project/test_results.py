import json
from pathlib import Path

import pytest

from tests.support.project import commit, git
from theta.errors import ProjectError
from theta.experiments import compare
from theta.project.results import find, flat, summary

REPLY = "- {{messages: [{{role: user, content: What is DNS?}}], reply: {}}}\n"


def write(folder: Path, *, epochs: int, loss: float, reply: str, data: str) -> None:
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(f"train: {{epochs: {epochs}, seed: 0}}\n")
    lock = {"stages": {"fetch": {"outs": [{"path": "models/base/data.json", "md5": data}]}}}
    (folder / "dvc.lock").write_text(json.dumps(lock))
    (folder / "metrics/evaluate.json").write_text(json.dumps({"test": {"loss": loss}, "name": "text"}))
    (folder / "metrics/replies.yaml").write_text(REPLY.format(reply))


@pytest.fixture
def two(project: Path) -> Path:
    """A project with a commit tagged `old`, another state in the workspace, and a release."""
    write(project, epochs=3, loss=2.5, reply="names", data="a")
    commit(project, "old")
    git(project, "tag", "old")
    write(project, epochs=5, loss=2.0, reply="addresses", data="b")
    write(project / "models/r", epochs=3, loss=2.5, reply="names", data="a")
    (project / "models/r/theta_final").mkdir()
    return project


def test_all_kinds_of_runs_are_read_alike(two: Path) -> None:
    found = [find(two, name) for name in ("old", "HEAD", "r", "models/r", "models/r/theta_final")]
    for each in found:
        assert dict(each.settings) == {"train.epochs": 3, "train.seed": 0}
        assert (each.metrics["evaluate.test.loss"], each.replies, each.inputs) == (
            2.5, {"What is DNS?": "names"}, {"data": "a"}
        )  # fmt: skip
    assert find(two, "workspace").settings["train.epochs"] == 5


def test_only_what_differs_is_compared(two: Path) -> None:
    one, other = find(two, "old"), find(two, "workspace")
    assert [(line.name, line.one, line.other, line.change) for line in compare.settings(one, other)] == [
        ("train.epochs", 3, 5, 2)
    ]
    assert [(line.name, line.change) for line in compare.metrics(one, other)] == [("evaluate.test.loss", -0.5)]
    assert compare.inputs(one, other) == {"data": False}
    assert [(line.name, line.one, line.other) for line in compare.replies(one, other)] == [
        ("What is DNS?", "names", "addresses")
    ]
    same = find(two, "r")
    assert (compare.settings(one, same), compare.metrics(one, same), compare.inputs(one, same)) == (
        [],
        [],
        {"data": True},
    )


@pytest.mark.parametrize("name", ["nothing", "--all", "HEAD~7"])
def test_a_name_of_nothing_is_one_line(two: Path, name: str) -> None:
    with pytest.raises(ProjectError, match=r"is not a release, an experiment or a git revision; `theta releases`"):
        find(two, name)


def test_a_revision_without_results_says_so(project: Path) -> None:
    with pytest.raises(ProjectError, match=r"HEAD holds no results"):
        find(project, "HEAD")


def test_the_summary_of_a_release_lacks_what_was_not_measured(two: Path) -> None:
    assert set(summary(two / "models/r").values()) == {None}


def test_nested_values_have_dotted_names() -> None:
    assert dict(flat({"a": {"b": 1, "c": {}}, "d": [2]})) == {"a.b": 1, "a.c": {}, "d": [2]}

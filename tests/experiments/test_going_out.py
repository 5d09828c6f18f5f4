"""One real project from its first run to a second model: release, finetune, compare. All tests share its only run."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import tests.support.project as projects
from tests.support.project import change, commit, git, run, tree

pytestmark = pytest.mark.slow

NEW = {
    "When does the bakery open?": "At half past six.",
    "Where is the bakery?": "At 12 Mill Lane.",
    "Who bakes the bread?": "Marta bakes it.",
    "Is there coffee?": "Yes, filter coffee.",
}
Theta = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = projects.make(tmp_path_factory.mktemp("finished") / "project")
    run(root, "dvc", "repro")
    commit(root, "The first model")
    return root


@pytest.fixture(scope="module")
def released(finished: Path) -> Path:
    """The project with a release, and new data that git ignores."""
    done = run(finished, "theta", "release", "--name", "first")
    assert done.stdout.splitlines()[:2] == [
        "models/first/theta_final",
        "Registered as theta v1.0.0; `gto show` lists the versions.",
    ]
    with (finished / ".gitignore").open("a") as ignored:
        ignored.write("/Datasets/new/\n")
    commit(finished, "New data stays here")
    (finished / "Datasets/new").mkdir()
    rows = [{"question": question, "answer": answer} for question, answer in NEW.items()]
    (finished / "Datasets/new/bakery.json").write_text(json.dumps(rows))
    return finished


@pytest.fixture(scope="module")
def continued(released: Path) -> Mapping[str, bytes]:
    """The files of the workspace before `theta finetune`, which has run."""
    before = tree(released)
    done = run(
        released, "theta", "finetune", "--model_name", "models/first", "--data-path", "Datasets/new",
        "--output-dir", "models/second", "--epochs", "2", "--learning_rate", "1e-3",
    )  # fmt: skip
    assert done.stdout.splitlines()[-4] == "models/second/theta_final"
    return before


def test_a_release_is_tracked_and_registered(released: Path, tmp_path: Path) -> None:
    assert git(released, "status", "--porcelain") == ""
    assert "v1.0.0" in run(released, "gto", "show", "theta").stdout
    run(tmp_path, "dvc", "artifacts", "get", str(released), "theta", "--out", "got")
    same = {path.name: path.read_bytes() for path in (tmp_path / "got").iterdir()}
    assert same == {path.name: path.read_bytes() for path in (released / "models/first/theta_final").iterdir()}
    shutil.rmtree(released / "models/first")
    run(released, "dvc", "checkout", "models/first.dvc")
    assert (released / "models/first/rehearsal.jsonl").is_file()


def test_a_remote_receives_a_release(released: Path, tmp_path: Path) -> None:
    arguments = ("theta", "publish", "--model", "models/first", "--remote", "away")
    assert "DVC has no remote 'away'" in run(released, *arguments, check=False).stderr
    run(released, "dvc", "remote", "add", "--local", "away", str(tmp_path / "away"))
    assert run(released, *arguments).stdout.endswith("Nothing was sent; add --send to send it.\n")
    assert not (tmp_path / "away").exists()
    run(released, *arguments, "--send")
    sent = {path.read_bytes() for path in (tmp_path / "away").rglob("*") if path.is_file()}
    assert {path.read_bytes() for path in (released / "models/first").rglob("*") if path.is_file()} <= sent


def test_a_pipeline_that_is_not_up_to_date_is_not_released(released: Path) -> None:
    change(released, {"generation": {"top_k": 7}})
    done = run(released, "theta", "release", check=False)
    git(released, "checkout", "params.yaml")
    assert done.returncode == 1
    assert done.stderr.startswith("error: The pipeline is not up to date (")
    assert done.stderr.strip().endswith("run `dvc repro`, then release.")


def test_changes_that_no_commit_holds_are_not_released(released: Path) -> None:
    (released / ".dvcignore").write_text("# a change\n")
    done = run(released, "theta", "release", check=False)
    git(released, "checkout", ".dvcignore")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "The changes to .dvcignore are not committed; a release names the commit that made it." in done.stderr


def test_what_cannot_be_recorded_leaves_nothing(released: Path) -> None:
    hook = released / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho 'not on Fridays' >&2\nexit 1\n")
    hook.chmod(0o755)
    done = run(released, "theta", "release", "--name", "third", check=False)
    hook.unlink()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "not on Fridays" in done.stderr
    assert not list((released / "models").glob("third*"))
    assert git(released, "diff", "--cached", "--name-only") == ""


def test_the_workspace_stays_as_it_was(released: Path, continued: Mapping[str, bytes]) -> None:
    after = {name: content for name, content in tree(released).items() if not name.startswith("models/second/")}
    assert after == continued
    assert git(released, "status", "--porcelain") == ""
    assert not list((released / ".theta/copies").iterdir())


def test_the_result_is_a_model_that_a_next_run_may_start_from(released: Path, continued: object) -> None:
    folder = released / "models/second"
    lines = [json.loads(line) for line in (folder / "rehearsal.jsonl").read_text().splitlines()]
    questions = {line["messages"][0]["content"] for line in lines}
    assert questions & set(NEW)
    assert questions & set(projects.CONVERSATIONS)
    made = json.loads((folder / "provenance.json").read_text())
    assert (made["data"]["path"], made["data"]["files"]) == ("Datasets/new", 1)
    assert made["base"]["name"] == "models/first/theta_final"
    assert made["base"]["made_by"]["base"]["name"] == "scratch:nano"
    assert (
        "- models/first/theta_final was trained from random weights" in (folder / "theta_final/README.md").read_text()
    )


def test_template_and_special_tokens_are_those_of_the_base(released: Path, continued: object) -> None:
    for name in ("chat_template.jinja", "special_tokens_map.json", "tokenizer.json", "vocab.json"):
        first, second = (released / "models" / each / "theta_final" / name for each in ("first", "second"))
        assert first.read_bytes() == second.read_bytes(), name


def test_it_is_an_experiment_that_compares(released: Path, continued: object) -> None:
    assert "[second]" in run(released, "dvc", "exp", "list").stdout
    shown = run(released, "theta", "compare", "first", "second").stdout
    assert "model.base\tscratch:nano\tmodels/first/theta_final\t-\n" in shown
    assert "base: different\ndata: different\n" in shown
    again = run(released, "theta", "compare", "HEAD", "workspace").stdout
    assert again.startswith("Settings that differ: none\nbase: the same\ndata: the same\nFigures that differ: none\n")
    rows = run(released, "theta", "releases").stdout.splitlines()
    assert [row.split("\t")[:3] for row in rows] == [
        ["release", "version", "base"],
        ["first", "v1.0.0", "scratch:nano"],
        ["second", "-", "models/first/theta_final"],
    ]


def test_an_output_that_exists_is_refused_before_anything_runs(released: Path, continued: object) -> None:
    arguments = ("--model-name", "models/first", "--data-path", "Datasets/new", "--output-dir", "models/second")
    done = run(released, "theta", "finetune", *arguments, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("error: models/second already exists and was not changed; name another --output-dir.\n")


def test_a_result_becomes_a_release_without_a_version(released: Path, continued: object) -> None:
    done = run(released, "theta", "release", "--model", "models/second/theta_final", "--name", "kept")
    assert done.stdout.splitlines()[0] == "models/kept/theta_final"
    assert "Registered" not in done.stdout
    made, kept = (tree(released / "models" / name) for name in ("second", "kept"))
    assert kept == {name: content for name, content in made.items() if name != ".gitignore"}
    assert git(released, "status", "--porcelain") == ""
    assert git(released, "ls-files", "models/kept.dvc") == "models/kept.dvc"


def test_elsewhere_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text("[]")
    done = run(tmp_path, "theta", "finetune", "--data-path", "new.json", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is not in a Theta project" in done.stderr

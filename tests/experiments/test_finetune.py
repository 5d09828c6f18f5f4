"""What `theta finetune` makes of its options, without a run."""

from pathlib import Path
from typing import Any

import pytest

from theta.errors import ExportError, ProjectError
from theta.experiments.finetune import Request, _keeping, base_of, change, finetune, named, release_of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a release of 100 bytes to rehearse, 10 bytes of new data, and an own model."""
    (tmp_path / "models/r/theta_final").mkdir(parents=True)
    (tmp_path / "models/r/rehearsal.jsonl").write_text("x" * 100)
    (tmp_path / "models/r/theta_final/model.safetensors").write_text("weights")
    (tmp_path / "new.json").write_text("x" * 10)
    (tmp_path / "params.yaml").write_text("train: {epochs: 4} # of the workspace\ndata: {path: old}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def share(root: Path, base: str = "models/r/theta_final", data: str = "new.json", **train: Any) -> float | None:
    return _keeping(Request(root, base, data, root / "out", train)).get("rehearsal_share")


def test_a_run_repeats_the_rehearsal_twice(root: Path) -> None:
    assert share(root) == 2 * 100 / (4 * 10)
    assert share(root, epochs=10) == 2.0
    assert share(root, epochs=1) == 20.0  # no more than that
    assert share(root, epochs=1000) == 0.3  # and no less
    assert share(root, data=str(root / "models/r")) == pytest.approx(2 * 100 / (4 * 107), abs=0.01)


def test_few_new_conversations_get_a_number_of_epochs(root: Path) -> None:
    (root / "params.yaml").write_text("train: {epochs: auto}")
    request = Request(root, "models/r/theta_final", "new.json", root / "out", {})
    assert _keeping(request) == {"epochs": 20, "rehearsal_share": 1.0, "base_share": 0.0}
    (root / "new.json").write_text("x" * 100_001)
    assert _keeping(request) == {"rehearsal_share": 0.3, "base_share": 0.0}


def test_nothing_is_chosen_for_a_base_without_a_rehearsal(root: Path) -> None:
    assert share(root, base="gpt2") is None
    assert share(root, base="models/r/other") is None
    assert share(root, data="hf://datasets/a/b") is None


def test_paths_are_named_so_that_the_project_may_move(root: Path, tmp_path: Path) -> None:
    (tmp_path / "models/link").symlink_to(tmp_path / "models/r")
    assert named(root, "models/../new.json") == "new.json"
    assert named(root, str(tmp_path / "new.json")) == "new.json"
    assert named(root, "/elsewhere/new.json") == "/elsewhere/new.json"
    assert base_of(root, "models/r") == base_of(root, "models/link") == "models/r/theta_final"
    assert base_of(root, "gpt2") == "gpt2"


def test_settings_change_and_comments_stay(root: Path) -> None:
    change(root / "params.yaml", {"train": {"epochs": 5}, "data": {"path": "a b, c=d.json"}})
    text = (root / "params.yaml").read_text()
    assert "epochs: 5" in text
    assert "# of the workspace" in text
    assert "a b, c=d.json" in text
    with pytest.raises(ProjectError, match="has no section 'model'"):
        change(root / "params.yaml", {"model": {"base": "gpt2"}})


def test_a_release_of_the_own_model_is_found_by_its_weights(root: Path) -> None:
    with pytest.raises(ProjectError, match=r"holds no model; run `dvc repro`, or name another base with --model-name"):
        release_of(root)
    (root / "models/theta_final").mkdir()
    (root / "models/theta_final/model.safetensors").write_text("weights")
    assert release_of(root) == root / "models/r/theta_final"
    (root / "models/theta_final/model.safetensors").write_text("WEIGHTS")
    assert release_of(root) is None


@pytest.mark.parametrize("name", ["theta_final", "checkpoint", "base"])
def test_the_pipeline_s_own_folders_are_no_output(root: Path, name: str) -> None:
    with pytest.raises(ExportError, match="a folder that the pipeline writes"):
        finetune(Request(root, "gpt2", "new.json", root / "models" / name, {}))

"""What `theta finetune` makes of its options, without a run."""

from pathlib import Path

import pytest

from tests.support.runs import make_store
from theta.errors import ExportError, ProjectError
from theta.experiments.finetune import (
    LEAST_SHARE,
    MOST_SHARE,
    Request,
    base_of,
    brings_rehearsal,
    change,
    finetune,
    keeping,
    named,
    release_of,
)
from theta.files import write_json
from theta.tokens.store import Store, write

STARTER = {
    "kind": "local", "fine_tuned": True, "layers": 12, "width": 256, "vocabulary_size": 50_262, "positions": 1024,
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a release and an own model."""
    (tmp_path / "models/r/theta_final").mkdir(parents=True)
    (tmp_path / "models/r/rehearsal.jsonl").write_text("")
    (tmp_path / "models/r/theta_final/model.safetensors").write_text("weights")
    (tmp_path / "new.json").write_text("[]")
    (tmp_path / "params.yaml").write_text("train: {epochs: 4} # of the workspace\ndata: {path: old}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    """A project whose data is encoded: 20 new documents, and 60 to rehearse, of a small model that Theta trained."""
    write_json(tmp_path / "models/base/weights.json", STARTER)
    (tmp_path / "params.yaml").write_text("train: {epochs: auto}")
    (tmp_path / "Datasets/tokens").mkdir(parents=True)
    make_store(tmp_path / "Datasets/tokens/train.arrow", 20, seed=0)
    make_store(tmp_path / "Datasets/tokens/rehearsal.arrow", 60, seed=1)
    return tmp_path


def tokens(project: Path, name: str) -> int:
    return int(Store(project / f"Datasets/tokens/{name}.arrow").lengths.sum())


def test_the_rehearsal_is_repeated(encoded: Path) -> None:
    old, new = tokens(encoded, "rehearsal"), tokens(encoded, "train")
    (encoded / "params.yaml").write_text("train: {epochs: 2}")
    assert keeping(encoded) == {"epochs": 2, "rehearsal_share": round(old / (2 * new), 2), "base_share": 0.0}
    (encoded / "params.yaml").write_text("train: {epochs: 1000}")
    assert keeping(encoded)["rehearsal_share"] == LEAST_SHARE
    make_store(encoded / "Datasets/tokens/train.arrow", 1, seed=0)
    (encoded / "params.yaml").write_text("train: {epochs: 1}")
    assert keeping(encoded)["rehearsal_share"] == MOST_SHARE


def test_auto_epochs_are_those_of_the_table_if_the_rehearsal_makes_enough_updates(encoded: Path) -> None:
    """150 updates of 512 tokens are 76,800 tokens, to which the rehearsal adds its own."""
    old, new = tokens(encoded, "rehearsal"), tokens(encoded, "train")
    assert keeping(encoded)["epochs"] == (76_800 - old) // new > 32
    make_store(encoded / "Datasets/tokens/rehearsal.arrow", 4_000, seed=1)
    assert keeping(encoded)["epochs"] == 32
    make_store(encoded / "Datasets/tokens/train.arrow", 301, seed=0)
    assert keeping(encoded)["epochs"] == 10


def test_without_rehearsal_the_new_data_makes_all_updates(encoded: Path) -> None:
    write(encoded / "Datasets/tokens/rehearsal.arrow", [])
    assert keeping(encoded)["epochs"] == 76_800 // tokens(encoded, "train")


def test_only_a_release_brings_a_rehearsal(root: Path) -> None:
    assert brings_rehearsal(root / "models/r/theta_final")
    assert not brings_rehearsal(root / "models/r")
    assert not brings_rehearsal(root / "gpt2")


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

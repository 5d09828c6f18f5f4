import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.export import export
from tests.support.imports import ROOT
from tests.support.tiny import save_project
from theta.conversation.messages import Message
from theta.conversation.template import render_prompt
from theta.errors import DataError, ExportError, StorageError
from theta.export import verification
from theta.files import sha256, sweep
from theta.tokens.vocabulary import Vocabulary

pytestmark = pytest.mark.slow

FINAL = Path("models/theta_final")


@pytest.fixture
def project(tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_project(tmp_path, vocabulary)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digests() -> dict[str, str]:
    paths = (*FINAL.iterdir(), Path("metrics/export.json"))
    return {path.name: sha256(path) for path in paths}


def test_the_stage_writes_the_same_bytes_twice(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export()
    first = digests()
    export()
    assert digests() == first
    found = json.loads(Path("metrics/export.json").read_text())
    assert found.pop("megabytes") > 10
    assert found == {"dtype": "float32", "max_logit_difference": 0.0}
    text = (FINAL / "README.md").read_text()
    assert str(project) not in text
    assert text.count("Not measured.") == 2  # there is no metrics/evaluate.json
    assert "exported models/theta_final" in capsys.readouterr().out


# Theta cannot be imported, sockets cannot be opened, and a warning is an error.
STRANGER = """
import socket, sys, warnings
warnings.simplefilter("error")
sys.modules["theta"] = None
def refuse(*_): raise OSError("the network was asked")
socket.socket.connect = refuse
from transformers import logging
logging.disable_progress_bar()
{code}
print("IDS", prompt["input_ids"][0].tolist())
assert written.shape[1] - prompt["input_ids"].shape[1] <= 12, written.shape
"""


def test_a_stranger_runs_the_code_of_the_card(project: Path, vocabulary: Vocabulary) -> None:
    export()
    code = re.findall(r"```python\n(.*?)```", (FINAL / "README.md").read_text(), re.DOTALL)[1]
    script = STRANGER.replace("{code}", code)
    done = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    prompt = render_prompt([Message("user", "What is machine learning?")])
    assert f"IDS {vocabulary.encode(list(prompt))[0]}" in done.stdout


def test_what_theta_did_not_write_is_never_deleted(project: Path) -> None:
    export()
    before = digests()
    (FINAL / "theta.gguf").write_text("made by the user")
    with pytest.raises(StorageError, match=r"theta_final holds theta\.gguf, which Theta did not write there"):
        export()
    assert (FINAL / "theta.gguf").read_text() == "made by the user"
    (FINAL / "theta.gguf").unlink()
    assert digests() == before


@pytest.mark.parametrize(("largest_file_bytes", "name"), [(10_000, "tokenizer.json"), (5_000_000, "model.safetensors")])
def test_a_full_disk_is_one_line_that_names_the_file(project: Path, largest_file_bytes: int, name: str) -> None:
    """A limit on the size of files simulates the full disk."""
    export()
    before = digests()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, hard))
    expected = rf"^models/theta_final/{name} cannot be written \(File too large\); make room on the disk and run the"
    try:
        with pytest.raises(StorageError, match=expected):
            export()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert digests() == before


def test_torch_on_a_full_disk_is_one_line_that_names_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is always full replaces the file."""
    save = Vocabulary.save

    def save_and_fill(self: Vocabulary, folder: Path, max_length: int) -> None:
        save(self, folder, max_length)
        (folder / "pytorch_model.bin").symlink_to("/dev/full")

    monkeypatch.setattr(Vocabulary, "save", save_and_fill)
    with pytest.raises(StorageError, match=r"^models/theta_final/pytorch_model\.bin cannot be written \(.+\); make"):
        export()
    assert not FINAL.exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train", "[1, 2]", "metrics/train.json holds a list, not an object; run `dvc repro` to recreate it"),
        (
            "evaluate",
            "{}",
            r"evaluate\.json.* is not what its stage writes \(KeyError.*; run `dvc repro` to recreate it",
        ),
        ("tokenize", '{"train": 3}', r"tokenize\.json.* is not what its stage writes \(TypeError"),
        ("prepare", "{", r"metrics/prepare\.json is not valid JSON .*; run `dvc repro` to recreate it"),
    ],
)
def test_damaged_metrics_are_named(project: Path, name: str, content: str, words: str) -> None:
    Path(f"metrics/{name}.json").write_text(content)
    with pytest.raises(DataError, match=words):
        export()


def test_a_folder_that_fails_leaves_the_old_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export()
    before = digests()

    def fail(*_: object) -> float:
        raise ExportError("it differs")

    monkeypatch.setattr(verification, "verify", fail)
    with pytest.raises(ExportError, match="it differs"):
        export()
    assert digests() == before
    assert sorted(path.name for path in Path("models").iterdir()) == ["base", "checkpoint", "exports", "theta_final"]


def test_a_kill_leaves_the_old_model_and_nothing_for_git(project: Path) -> None:
    export()
    before = digests()
    for name in (".gitignore", "models/.gitignore"):
        shutil.copy(ROOT / name, name)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "exported"]):
        subprocess.run([*git, *arguments], check=True)
    command = [sys.executable, "-m", "stages", "export"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        while not (left := list(Path("models").glob(".theta_final.*.partial/model.safetensors"))):
            assert process.poll() is None, "it ended before it wrote the weights"
            time.sleep(0.001)
        process.kill()
    assert left[0].exists()
    assert digests() == before
    changes = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert changes.stdout == ""
    sweep(FINAL)  # as the stage fetch does, which always runs
    assert sorted(path.name for path in Path("models").iterdir() if path.name.startswith(".")) == [".gitignore"]


def test_a_missing_checkpoint_names_the_remedy(project: Path) -> None:
    with pytest.raises(DataError, match="absent does not exist; run `dvc repro train` to create it"):
        export(checkpoint=Path("absent"))

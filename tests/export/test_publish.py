import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.upload_hub import UploadHub, serve
from theta.cli import main
from theta.errors import ExportError, ThetaError
from theta.export import publish

CARD = "---\nlibrary_name: transformers\nlicense: mit\n---\n\n# theta\n"


@pytest.fixture
def model(tmp_path: Path, tiny_folder: Path) -> Path:
    """A release: the model, and beside it what may be private."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "r/theta_final"))
    (folder / "README.md").write_text(CARD)
    (folder.parent / "rehearsal.jsonl").write_text("private\n")
    return folder


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    with serve() as running:
        yield running


def theta(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.app, [str(argument) for argument in arguments])


def publish_to(hub: UploadHub, model: Path, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: huggingface_hub reads its environment when it is imported."""
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
    command = [sys.executable, "-m", "theta", "publish", "--model", str(model), "--hub", "me/assistant", *arguments]
    return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)


def test_without_send_nothing_is_sent(hub: UploadHub, model: Path, tmp_path: Path) -> None:
    done = publish_to(hub, model, home=tmp_path)
    assert done.returncode == 0
    assert "model.safetensors" in done.stdout
    assert done.stdout.splitlines()[-1] == "Nothing was sent; add --send to send it."
    assert hub.requests == []


@pytest.mark.slow
def test_the_hub_receives_the_files_of_the_model_and_no_others(hub: UploadHub, model: Path, tmp_path: Path) -> None:
    done = publish_to(hub, model.parent, "--send", home=tmp_path)  # a release names its model
    assert done.returncode == 0, done.stderr
    assert hub.files == {path.name: path.read_bytes() for path in model.iterdir()}
    asked = hub.repositories["me/assistant"]  # huggingface_hub 2 says it in another word than 1
    assert asked.get("visibility") == "private" or asked.get("private") is True
    assert done.stdout.splitlines()[-1].startswith(hub.url)


@pytest.mark.slow
def test_what_the_hub_refuses_is_one_line(hub: UploadHub, model: Path, tmp_path: Path) -> None:
    hub.accepts_cards = False
    done = publish_to(hub, model, "--send", home=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: me/assistant could not be published at http://127.0.0.1")
    assert hub.files == {}


def test_a_folder_receives_the_files(model: Path, tmp_path: Path) -> None:
    assert theta("publish", "--model", model, "--folder", tmp_path / "out").exit_code == 0
    assert not (tmp_path / "out").exists()
    assert theta("publish", "--model", model, "--folder", tmp_path / "out", "--send").exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in model.iterdir()}
    with pytest.raises(ExportError, match="already exists and was not changed"):
        publish.to_folder(model, tmp_path / "out")


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("---\nlibrary_name: transformers\n---\n", "names no licence, so nobody may use the model; set export.license"),
        ("# no front matter\n", "does not begin with front matter"),
        ("---\nlicense: [mit\n---\n", "front matter is not valid YAML"),
        ("---\nlicense: mit\nmodel-index: 3\n---\n", "has front matter that a hub refuses"),
    ],
)
def test_a_card_that_a_hub_would_refuse_is_refused_before_anything_is_sent(model: Path, card: str, words: str) -> None:
    (model / "README.md").write_text(card)
    with pytest.raises(ExportError, match=words):
        publish.check_card(model)


def test_private_files_are_refused_also_in_the_folder(model: Path) -> None:
    shutil.copy(model.parent / "rehearsal.jsonl", model)
    with pytest.raises(ExportError, match=r"holds rehearsal.jsonl, which may be private"):
        publish.contents(model)


def test_exactly_one_target(model: Path, tmp_path: Path) -> None:
    for targets in ((), ("--hub", "me/a", "--folder", tmp_path / "out")):
        done = theta("publish", "--model", model, *targets)
        assert isinstance(done.exception, ThetaError)
        assert "Name one target" in str(done.exception)

"""The train stage as DVC runs it: killed, orphaned, and run twice."""

import hashlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages.fetch import fetch
from stages.prepare import prepare
from stages.tokenize import tokenize
from stages.train import train
from tests.support.train_stage import (
    STATE,
    TO_TWO,
    begin,
    end_of,
    finish,
    has_state,
    is_alive,
    wait_until,
    weights,
)
from theta.errors import TrainingError
from theta.files import read_json, write_json_lines
from theta.settings import read
from theta.tokens.store import Store
from theta.train import resume_folder
from theta.train.resume_folder import key_of

pytestmark = pytest.mark.slow


@pytest.fixture
def pretrained(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project; it is the current folder."""
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    change(train__epochs=1, train__learning_rate=0.01)
    return tmp_path


def change(**changes: object) -> None:
    """Change settings of params.yaml, written as `section__key=value`."""
    values = read(Path("params.yaml"))
    for name, value in changes.items():
        section, key = name.split("__")
        values[section][key] = value
    Path("params.yaml").write_text(json.dumps(values))


def test_two_runs_write_the_same_bytes_and_a_lost_checkpoint_is_not_trained_again(
    project: Path, uninterrupted: str
) -> None:
    """A full disk can cost the checkpoint while DVC caches it; a run that finds it cached removes the state."""
    metrics = read_json(project / "metrics" / "train.json")
    code, _, errors = end_of(begin(project))
    assert code == 0, errors
    assert weights(project) == uninterrupted
    assert read_json(project / "metrics" / "train.json") == metrics
    shutil.rmtree(project / "models" / "checkpoint")
    again = begin(project)
    code, output, errors = end_of(again)
    assert code == 0, errors
    assert b"step 1/" not in output
    assert weights(project) == uninterrupted
    file = project / "models" / "checkpoint" / "model.safetensors"
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    cached = project / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    cached.parent.mkdir(parents=True)
    shutil.copy(file, cached)
    (cached.parent / "listing.dir").write_text(json.dumps([{"md5": digest, "relpath": "model.safetensors"}]))
    (project / "dvc.lock").write_text(f"md5: {digest[:2]}listing.dir")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        fetch()
    assert not has_state(project)


def test_what_was_held_back_is_learned_after_it_was_measured(project: Path, uninterrupted: str) -> None:
    """Stopped in the second training, both go on to the weights of runs that were not stopped."""
    values = read(project / "params.yaml")
    values["train"]["learn_held_out"] = True
    (project / "everything.yaml").write_text(json.dumps(values))
    everything = project / "models" / "checkpoint" / "everything"
    first = begin(project, "--params", "everything.yaml")
    # Two files may be of one run, while the second replaces the first.
    wait_until(
        lambda: len({path.parent for path in (project / ".theta").rglob(STATE)}) == 2 or first.poll() is not None
    )
    assert weights(project) == uninterrupted
    first.send_signal(signal.SIGINT)
    code, output, errors = end_of(first)
    assert (code, everything.exists()) == (1, False), errors
    assert b"(SIGINT received); run the same command again" in errors
    assert b"Training once more on all 30 documents, including those that were held back." in output
    second = begin(project, "--params", "everything.yaml")
    code, output, errors = end_of(second)
    assert code == 0, errors
    assert output.count(b"resuming after step ") >= 1
    assert weights(project) == uninterrupted
    learned = load_file(everything / "model.safetensors")
    shutil.rmtree(project / ".theta")
    shutil.rmtree(project / "models" / "checkpoint")
    third = begin(project, "--params", "everything.yaml")
    assert end_of(third)[0] == 0
    again = load_file(everything / "model.safetensors")
    assert all(torch.equal(tensor, learned[name]) for name, tensor in again.items())
    measured = load_file(project / "models" / "checkpoint" / "model.safetensors")
    assert not torch.equal(again["transformer.wpe.weight"], measured["transformer.wpe.weight"])
    shutil.rmtree(project / ".theta")
    shutil.rmtree(everything)


def test_a_run_that_is_killed_and_then_terminated_ends_with_the_same_weights(project: Path, uninterrupted: str) -> None:
    first = begin(project)
    wait_until(lambda: has_state(project) or first.poll() is not None)
    first.kill()
    code, _, errors = end_of(first)
    assert (code, has_state(project)) == (-signal.SIGKILL, True)
    assert b"Traceback" not in errors
    saved = states(project)
    second = begin(project)
    wait_until(lambda: states(project) != saved or second.poll() is not None)
    second.terminate()
    code, output, errors = end_of(second)
    assert (code, has_state(project)) == (1, True), output
    assert b"(SIGTERM received); run the same command again" in errors
    assert b"Traceback" not in errors
    assert b"resuming after step" in finish(project)
    assert weights(project) == uninterrupted


def states(project: Path) -> set[str]:
    """The names of the resume states, which contain their digests."""
    return {file.name for file in (project / ".theta").rglob(STATE)}


def test_a_run_continues_after_a_change_of_threads_and_starts_over_after_one_of_precision(project: Path) -> None:
    first = begin(project)
    wait_until(lambda: has_state(project) or first.poll() is not None)
    first.send_signal(signal.SIGINT)
    end_of(first)
    values = read(project / "params.yaml")
    for changes, line in (
        ({"precision": "bfloat16"}, b"Training starts over: the saved state of this run has other number formats"),
        ({"threads": 2, "steps_per_checkpoint": 50}, b"resuming after step "),
    ):
        changed = {**values, "machine": {**values["machine"], **changes}}
        (project / "other_machine.yaml").write_text(json.dumps(changed))
        stage = begin(project, "--params", "other_machine.yaml", *TO_TWO)
        code, output, errors = end_of(stage)
        assert code == 0, errors
        assert output.count(line) == 1


def test_the_checkpoint_has_its_share_of_a_pretrained_base(pretrained: Path) -> None:
    checkpoints = []
    for share in (0.0, 0.4):
        change(train__base_share=share)
        fetch()
        tokenize()
        train()
        shutil.rmtree(".theta/train")
        checkpoints.append(load_file("models/checkpoint/model.safetensors"))
    whole, mixed = checkpoints
    base = load_file("mine/model.safetensors")
    for name in ("transformer.wpe.weight", "transformer.wte.weight", "transformer.h.0.attn.c_attn.weight"):
        rows = len(base[name])
        assert not torch.allclose(whole[name][:rows], base[name], atol=1e-3)
        torch.testing.assert_close(mixed[name][:rows], 0.6 * whole[name][:rows] + 0.4 * base[name])
        torch.testing.assert_close(mixed[name][rows:], whole[name][rows:])


def bring(*replies: str) -> None:
    """Let the base bring conversations with these replies, and tokenize them."""
    write_json_lines(Path("mine/rehearsal.jsonl"), ({"question": f"And {each}?", "answer": each} for each in replies))
    fetch()
    prepare()
    tokenize()


def test_the_conversations_of_the_base_are_rehearsed(pretrained: Path) -> None:
    assert Path("Datasets/tokens/rehearsal.arrow").is_file()
    figures, lengths = (Path(f"metrics/{name}").read_bytes() for name in ("tokenize.json", "plots/lengths.csv"))
    change(model__rehearsal="auto", train__rehearsal_share=0.5, train__wording_share=0.0, train__wordings_per_opening=0)
    bring("Yes, it is.", "No, it is not.", "We shall see.")
    rehearsal = Store(Path("Datasets/tokens/rehearsal.arrow"))
    assert list(rehearsal.sources) == [f"models/base/rehearsal.jsonl#{number}" for number in (1, 2, 3)]
    assert Path("metrics/tokenize.json").read_bytes() == figures
    assert Path("metrics/plots/lengths.csv").read_bytes() == lengths
    train()
    metrics, of_split = read_json(Path("metrics/train.json")), read_json(Path("metrics/tokenize.json"))["train"]
    assert metrics["tokens"] - metrics["rehearsal_tokens"] == of_split["tokens"]
    assert 0 <= metrics["rehearsal_tokens"] - 0.5 * of_split["tokens"] < rehearsal.lengths.max()


def test_a_resume_state_belongs_to_its_rehearsal(pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []

    def stop(*arguments: Any) -> None:
        folders.append(key_of(*arguments))
        raise TrainingError

    monkeypatch.setattr(resume_folder, "key_of", stop)
    change(model__rehearsal="auto")
    for share in (0.5, 0.0):
        change(train__rehearsal_share=share)
        for reply in ("Yes, it is.", "No, it is not.", "Yes, it is."):
            bring(reply)
            with pytest.raises(TrainingError):
                train()
    one, other, again, *without = folders
    assert one == again != other
    assert len(set(without)) == 1, "without a share nothing depends on it"


PARENT = (
    "import subprocess as s, sys; child = s.Popen([sys.executable, *sys.argv[1:]]); print(child.pid, flush=True); "
    "child.wait()"
)


def test_training_ends_when_its_parent_has_ended(project: Path, uninterrupted: str) -> None:
    """When DVC is terminated, the stage gets no signal and has to notice."""
    parent = begin(project, wrapper=("-c", PARENT))
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: has_state(project))
    parent.kill()
    end_of(parent)  # the child holds the pipe until it ends
    wait_until(lambda: not is_alive(child))
    assert has_state(project)
    finish(project)
    assert weights(project) == uninterrupted

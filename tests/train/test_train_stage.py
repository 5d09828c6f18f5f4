"""The train stage as DVC runs it: killed, orphaned, and run twice."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stages.fetch import fetch
from stages.prepare import prepare
from stages.tokenize import tokenize
from stages.train import train
from theta.errors import TrainingError
from theta.files import read_json, sha256, write_json, write_json_lines
from theta.model import network
from theta.settings import read
from theta.tokens.store import Store
from theta.train import resume_folder
from theta.train.resume_folder import key_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
STATE = "state.*.pt"

HUNG_SECONDS = 600
"""A stage that takes longer counts as hung. On two cores two ranks took 25 seconds at a load of 3, and 78 at a load of
12, where a limit of 60 had failed."""


@pytest.fixture(autouse=True)
def no_state_of_other_tests(request: pytest.FixtureRequest) -> None:
    """Each test begins without a resume state."""
    if "project" in request.fixturenames:
        shutil.rmtree(request.getfixturevalue("project") / ".theta" / "train", ignore_errors=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything before training is done, for thirty short conversations."""
    folder = tmp_path_factory.mktemp("project")
    items = [{"question": f"What is {i} plus one?", "answer": f"It is {i + 1}, {i + 1}."} for i in range(30)]
    write_json(folder / "Datasets" / "mine" / "sums.json", items)
    values = read(ROOT / "params.yaml")
    values["model"]["base"] = "scratch:nano"
    values["data"] |= {"path": "Datasets/mine", "validation_fraction": 0.1, "test_fraction": 0.1}
    values["tokenizer"]["max_length"] = 64
    values["train"] |= {"epochs": 6, "tokens_per_step": 128}
    values["machine"] |= {"threads": 1, "precision": "float32", "steps_per_checkpoint": 2}
    (folder / "params.yaml").write_text(json.dumps(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fetch()
        prepare()
        tokenize()
    return folder


@pytest.fixture
def pretrained(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, with a local base in the folder `mine`; it is the current folder."""
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    network.save(network.new(1, 2, 32, seed=3), tmp_path / "mine")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(ROOT / "theta" / "tokens" / "gpt2" / name, tmp_path / "mine")
    change(model__base="mine", model__rehearsal="none", train__epochs=1, train__learning_rate=0.01)
    return tmp_path


def change(**changes: object) -> None:
    """Change settings of params.yaml, written as `section__key=value`."""
    values = read(Path("params.yaml"))
    for name, value in changes.items():
        section, key = name.split("__")
        values[section][key] = value
    Path("params.yaml").write_text(json.dumps(values))


@pytest.fixture(scope="module")
def uninterrupted(project: Path) -> str:
    """The digest of the weights of an uninterrupted run."""
    finish(project)
    return weights(project)


def begin(project: Path, *options: str, wrapper: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start the stage in a process of its own; `wrapper` are arguments of Python that run the rest of the line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "DVC_ROOT": str(project)}
    command = [sys.executable, *wrapper, "-m", "stages", "train", *options]
    return subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end_of(stage: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Wait until the stage has ended; return its exit code, its output and its errors."""
    try:
        output, errors = stage.communicate(timeout=HUNG_SECONDS)
    except subprocess.TimeoutExpired:
        stage.kill()
        raise
    return stage.returncode, output, errors


def finish(project: Path, *options: str) -> bytes:
    """Run the stage to its end, and forget the finished state, so that the next run trains again; return its output."""
    code, output, errors = end_of(begin(project, *options))
    assert code == 0, errors.decode()
    [finished] = (project / ".theta").rglob("finished.json")
    shutil.rmtree(finished.parent)
    return output


def weights(project: Path) -> str:
    return sha256(project / "models" / "checkpoint" / "model.safetensors")


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HUNG_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()


def has_state(project: Path) -> bool:
    return any((project / ".theta").rglob(STATE))


def test_two_runs_write_the_same_bytes(project: Path, uninterrupted: str) -> None:
    metrics = read_json(project / "metrics" / "train.json")
    finish(project)
    assert weights(project) == uninterrupted
    assert read_json(project / "metrics" / "train.json") == metrics
    assert not has_state(project)


def test_a_finished_run_whose_checkpoint_was_lost_is_not_trained_again(project: Path, uninterrupted: str) -> None:
    """A full disk can cost the checkpoint while DVC caches it; a run that finds it cached removes the state."""
    code, _, errors = end_of(begin(project))
    assert code == 0, errors
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


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGKILL, -9), (signal.SIGINT, 1), (signal.SIGTERM, 1)])
def test_a_stopped_run_continues_to_the_same_weights(
    project: Path, uninterrupted: str, number: signal.Signals, exit_code: int
) -> None:
    first = begin(project)
    wait_until(lambda: has_state(project) or first.poll() is not None)
    first.send_signal(number)
    code, _, errors = end_of(first)
    assert code == exit_code
    assert has_state(project)
    assert b"Traceback" not in errors
    if number != signal.SIGKILL:
        assert f"({number.name} received); run the same command again".encode() in errors
    second = begin(project)
    code, output, _ = end_of(second)
    assert code == 0, output
    assert weights(project) == uninterrupted
    shutil.rmtree(project / ".theta")


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
        finish(pretrained)
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
    change(model__rehearsal="auto", train__rehearsal_share=0.5)
    bring("Yes, it is.", "No, it is not.", "We shall see.")
    rehearsal = Store(Path("Datasets/tokens/rehearsal.arrow"))
    assert list(rehearsal.sources) == [f"models/base/rehearsal.jsonl#{number}" for number in (1, 2, 3)]
    assert Path("metrics/tokenize.json").read_bytes() == figures
    assert Path("metrics/plots/lengths.csv").read_bytes() == lengths
    finish(pretrained)
    metrics, of_split = read_json(Path("metrics/train.json")), read_json(Path("metrics/tokenize.json"))["train"]
    assert metrics["tokens"] - metrics["rehearsal_tokens"] == of_split["tokens"]
    assert 0 <= metrics["rehearsal_tokens"] - 0.5 * of_split["tokens"] < rehearsal.lengths.max()


def test_a_resume_state_belongs_to_its_rehearsal(pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []

    def stop(*arguments: Any) -> None:
        folders.append(key_of(*arguments))
        raise TrainingError

    monkeypatch.setattr(resume_folder, "key_of", stop)
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


TO_TWO = ("--checkpoint", "two/checkpoint", "--metrics", "two/train.json", "--curves", "two/curves")
TWO_RANKS = ("--params", "two_ranks.yaml", *TO_TWO)

STEP = re.compile(rb"^step (\d+)/")
LAST_STEP_TO_KILL = 8
"""Of about twenty: the ranks run on while the line of the step is read."""


@pytest.fixture(scope="module")
def two_ranks(project: Path, uninterrupted: str) -> Path:
    """The project with settings for one to three processes, which communicate over gloo; nothing else differs."""
    values = read(project / "params.yaml")
    for name, ranks in (("one_rank", 1), ("two_ranks", 2), ("three_ranks", 3)):
        values["machine"] |= {"device": "cpu", "devices": ranks}
        (project / f"{name}.yaml").write_text(json.dumps(values))
    return project


def losses(folder: Path) -> list[float]:
    lines = (folder / "plots" / "metrics" / "train" / "loss.tsv").read_text().splitlines()
    return [float(line.split("\t")[-1]) for line in lines[1:]]


def differences(project: Path) -> float:
    """The largest difference between the weights of two ranks and those of one."""
    one, two = (load_file(project / folder / "model.safetensors") for folder in ("models/checkpoint", "two/checkpoint"))
    return max((one[name] - two[name]).abs().max().item() for name in one)


def test_two_ranks_train_like_one(two_ranks: Path) -> None:
    finish(two_ranks, *TWO_RANKS)
    expected = losses(two_ranks / "metrics" / "curves")
    assert losses(two_ranks / "two" / "curves") == pytest.approx(expected, rel=1e-4)
    assert differences(two_ranks) < 1e-3
    assert read_json(two_ranks / "two" / "checkpoint" / "provenance.json")["compute"]["devices"] == 2
    assert not has_state(two_ranks)


def read_until_step(stage: subprocess.Popen[bytes], step: int) -> None:
    """Read the output of the stage until it has done this step."""
    assert stage.stdout is not None
    for line in stage.stdout:
        if (found := STEP.search(line)) and int(found[1]) >= step:
            return
    pytest.fail(f"the stage ended before step {step}: {end_of(stage)}")


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.parametrize("others", ["one_rank.yaml", "three_ranks.yaml"])
def test_a_rank_killed_at_a_random_step_ends_the_stage_and_other_ranks_continue(two_ranks: Path, others: str) -> None:
    step, rank = random.randint(2, LAST_STEP_TO_KILL), random.randrange(2)
    print(f"rank {rank} is killed after step {step}")  # pytest shows it if the test fails
    stage = begin(two_ranks, *TWO_RANKS)
    read_until_step(stage, step)
    os.kill(children_of(stage.pid)[rank], signal.SIGKILL)
    code, _, errors = end_of(stage)
    assert code == 1
    assert b"of 2 ended with exit code -9; run the same command again" in errors
    assert has_state(two_ranks)
    assert b"resuming after step" in finish(two_ranks, "--params", others, *TO_TWO)
    assert differences(two_ranks) < 1e-3


def test_a_signal_stops_all_ranks_after_the_same_step(two_ranks: Path) -> None:
    stage = begin(two_ranks, *TWO_RANKS)
    wait_until(lambda: has_state(two_ranks) or stage.poll() is not None)
    stage.send_signal(signal.SIGINT)
    code, _, errors = end_of(stage)
    assert code == 1
    assert b"SIGINT received); run the same command again" in errors
    assert b"Traceback" not in errors
    finish(two_ranks, *TWO_RANKS)
    assert differences(two_ranks) < 1e-3


FULL_DISK = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000)); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""A limit on the size of files stands for the full disk."""


def test_an_error_of_one_rank_is_one_line(two_ranks: Path) -> None:
    """Rank 0 alone writes, so it alone fails; the other loses its connection."""
    stage = begin(two_ranks, *TWO_RANKS, wrapper=("-c", FULL_DISK))
    code, _, errors = end_of(stage)
    assert code == 1
    assert errors.count(b"error: ") == 1
    assert b"cannot be written (" in errors
    assert b"Traceback" not in errors


def test_ranks_wait_together_for_another_run_to_end(two_ranks: Path) -> None:
    """The state that they then read is that of the other run, on all ranks."""
    first = begin(two_ranks, *TWO_RANKS)
    wait_until(lambda: has_state(two_ranks) or first.poll() is not None)
    second = begin(two_ranks, *TWO_RANKS)
    first.send_signal(signal.SIGINT)
    end_of(first)
    code, _, errors = end_of(second)
    assert code == 0, errors
    assert differences(two_ranks) < 1e-3


def begin_nodes(project: Path) -> list[subprocess.Popen[bytes]]:
    """Start the stage as on two machines: by two agents of torchrun, which meet at a free port, with a rank each."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"127.0.0.1:{server.getsockname()[1]}"
    options = (
        *("--nnodes", "2", "--nproc-per-node", "1", "--local-addr", "127.0.0.1"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "nodes"),
    )
    torchrun = ("-m", "torch.distributed.run", *options)
    return [begin(project, "--params", "one_rank.yaml", *TO_TWO, wrapper=torchrun) for _ in range(2)]


def test_two_nodes_train_like_one_rank(two_ranks: Path) -> None:
    for code, _, errors in map(end_of, begin_nodes(two_ranks)):
        assert code == 0, errors
    assert losses(two_ranks / "two" / "curves") == pytest.approx(losses(two_ranks / "metrics" / "curves"), rel=1e-4)
    assert differences(two_ranks) < 1e-3
    assert read_json(two_ranks / "two" / "checkpoint" / "provenance.json")["compute"]["devices"] == 2


def test_a_dead_rank_ends_both_nodes_and_one_rank_can_continue(two_ranks: Path) -> None:
    nodes = begin_nodes(two_ranks)
    wait_until(lambda: has_state(two_ranks) or any(node.poll() is not None for node in nodes))
    [rank] = children_of(nodes[1].pid)
    os.kill(rank, signal.SIGKILL)
    assert [code for code, _, _ in map(end_of, nodes)] == [1, 1]
    assert has_state(two_ranks)
    assert b"resuming after step" in finish(two_ranks, "--params", "one_rank.yaml", *TO_TWO)
    assert differences(two_ranks) < 1e-3

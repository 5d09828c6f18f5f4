"""The train stage in several processes: on one machine and on two, killed and stopped."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.train_stage import TO_TWO, begin, end_of, finish, has_state, wait_until
from theta.files import read_json
from theta.settings import read

pytestmark = pytest.mark.slow

TWO_RANKS = ("--params", "two_ranks.yaml", *TO_TWO)

STEP = re.compile(rb"^step (\d+)/")
SAME = 1e-4
"""Weights that differ by less are the same: sums in another order made 2e-6 of it, and training moves them by 1e-2."""
LAST_STEP_TO_KILL = 8
"""Of about thirty: the ranks run on while the line of the step is read."""


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
    """The largest difference between the weights of two ranks and those of one.

    The biases of keys are left out: no output depends on them, so their gradients are rounding errors, of which Adam
    makes whole steps.
    """
    one, two = (load_file(project / folder / "model.safetensors") for folder in ("models/checkpoint", "two/checkpoint"))
    differing = {name: (one[name] - two[name]).abs() for name in one}
    for name, difference in differing.items():
        if name.endswith("attn.c_attn.bias"):
            differing[name] = torch.cat([difference.chunk(3)[0], difference.chunk(3)[2]])
    return max(difference.max().item() for difference in differing.values())


def test_two_ranks_train_like_one(two_ranks: Path) -> None:
    finish(two_ranks, *TWO_RANKS)
    expected = losses(two_ranks / "metrics" / "curves")
    assert losses(two_ranks / "two" / "curves") == pytest.approx(expected, rel=1e-4)
    assert differences(two_ranks) < SAME
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


def test_a_rank_killed_at_a_random_step_ends_the_stage_and_other_ranks_continue(
    two_ranks: Path, tmp_path: Path
) -> None:
    step, rank = random.randint(2, LAST_STEP_TO_KILL), random.randrange(2)
    print(f"rank {rank} is killed after step {step}")  # pytest shows it if the test fails
    stage = begin(two_ranks, *TWO_RANKS)
    read_until_step(stage, step)
    os.kill(children_of(stage.pid)[rank], signal.SIGKILL)
    code, _, errors = end_of(stage)
    assert code == 1
    assert b"of 2 ended with exit code -9; run the same command again" in errors
    assert has_state(two_ranks)
    state = shutil.copytree(two_ranks / ".theta", tmp_path / "state")
    for others in ("one_rank.yaml", "three_ranks.yaml"):
        shutil.rmtree(two_ranks / ".theta")
        shutil.copytree(state, two_ranks / ".theta")
        assert b"resuming after step" in finish(two_ranks, "--params", others, *TO_TWO)
        assert differences(two_ranks) < SAME


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


def test_a_signal_stops_all_ranks_after_the_same_step_and_ranks_that_waited_go_on(two_ranks: Path) -> None:
    """The state that those then read is that of the other run, on all ranks."""
    first = begin(two_ranks, *TWO_RANKS)
    wait_until(lambda: has_state(two_ranks) or first.poll() is not None)
    second = begin(two_ranks, *TWO_RANKS)
    first.send_signal(signal.SIGINT)
    code, _, errors = end_of(first)
    assert code == 1
    assert b"SIGINT received); run the same command again" in errors
    assert b"Traceback" not in errors
    code, output, errors = end_of(second)
    assert code == 0, errors
    assert b"resuming after step" in output
    assert differences(two_ranks) < SAME


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


def test_a_dead_rank_ends_both_nodes_which_then_train_like_one_rank(two_ranks: Path) -> None:
    nodes = begin_nodes(two_ranks)
    wait_until(lambda: has_state(two_ranks) or any(node.poll() is not None for node in nodes))
    [rank] = children_of(nodes[1].pid)
    os.kill(rank, signal.SIGKILL)
    assert [code for code, _, _ in map(end_of, nodes)] == [1, 1]
    assert has_state(two_ranks)
    ended = [end_of(node) for node in begin_nodes(two_ranks)]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert any(b"resuming after step" in output for _, output, _ in ended)
    assert losses(two_ranks / "two" / "curves") == pytest.approx(losses(two_ranks / "metrics" / "curves"), rel=1e-4)
    assert differences(two_ranks) < SAME
    assert read_json(two_ranks / "two" / "checkpoint" / "provenance.json")["compute"]["devices"] == 2

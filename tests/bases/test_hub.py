"""Bases from the hub. Each `resolve` runs in its own process, because huggingface_hub reads its settings on import."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import save_gpt2, save_other_tokenizer
from tests.support.hub import Hub, serve
from theta.bases.hub import PINNED
from theta.tokens.vocabulary import GPT2_FOLDER

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, resource, sys
from theta.errors import ThetaError
from theta.bases.descriptors import locate_tokenizer, locate_weights, resolve
base, revision, bytes_per_file = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, bytes_per_file))
try:
    weights, tokenizer = resolve(base, revision, 0, [])
except ThetaError as fault:
    sys.exit(str(fault))
assert not {"torch", "transformers"} & set(sys.modules)
print(json.dumps([weights, tokenizer, str(locate_weights(weights)), str(locate_tokenizer(tokenizer))]))
"""


@dataclass
class Machine:
    """A computer with an empty cache and a hub."""

    home: Path
    hub: Hub

    def resolve(self, base: str, revision: str | None = None, bytes_per_file: int = -1, **environment: str) -> Any:
        """Return the result of `resolve` and the paths of the files, or its error message."""
        environment = {
            "HOME": str(self.home), "HF_HOME": str(self.home / "hf"), "HF_ENDPOINT": self.hub.url, "NO_PROXY": "*",
            "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment,
        }  # fmt: skip
        command = [sys.executable, "-W", "error", "-c", SCRIPT, json.dumps([base, revision, bytes_per_file])]
        done = subprocess.run(command, env=environment, cwd=self.home, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    def requests(self) -> set[str]:
        """Return the names of the files sent since the last call."""
        sent = {line.rsplit("/", 1)[1] for line in self.hub.requests if line.startswith("GET")}
        self.hub.requests.clear()
        return sent


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with serve() as hub:
        yield Machine(tmp_path, hub)


def test_a_pinned_base_is_fetched_once(machine: Machine, gpt2: Path) -> None:
    machine.hub.publish("gpt2", gpt2, PINNED["gpt2"])
    machine.hub.publish("gpt2", gpt2)  # `main` has moved on
    weights, tokenizer, folder, vocabulary = first = machine.resolve("gpt2")
    assert machine.requests() == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (weights["kind"], weights["name"], weights["revision"]) == ("hub", "gpt2", PINNED["gpt2"])
    assert set(weights["files"]) == {"config.json", "model.safetensors"}
    assert (tokenizer["kind"], vocabulary) == ("shipped", str(GPT2_FOLDER))
    assert (Path(folder) / "model.safetensors").read_bytes() == (gpt2 / "model.safetensors").read_bytes()

    machine.hub.url = "http://127.0.0.1:9"  # no server listens there
    assert machine.resolve("gpt2") == first
    full_name = machine.resolve("openai-community/gpt2", HF_HUB_OFFLINE="1")
    assert full_name == [{**weights, "name": "openai-community/gpt2"}, *first[1:]]


def test_an_unpinned_base_stays_at_the_commit_that_was_fetched_first(machine: Machine, gpt2: Path) -> None:
    first_commit = machine.hub.publish("someone/chat", gpt2)
    assert machine.resolve("someone/chat")[0]["revision"] == first_commit
    second_commit = machine.hub.publish("someone/chat", gpt2)
    machine.requests()
    assert machine.resolve("someone/chat")[0]["revision"] == first_commit
    assert not machine.hub.requests
    assert machine.resolve("someone/chat", second_commit)[0]["revision"] == second_commit
    assert machine.resolve("someone/chat")[0]["revision"] == first_commit


def test_another_size_has_the_same_tokenizer(machine: Machine, gpt2: Path, tmp_path: Path) -> None:
    machine.hub.publish("gpt2", gpt2, PINNED["gpt2"])
    machine.hub.publish("gpt2-medium", save_gpt2(tmp_path / "medium", width=64), PINNED["gpt2-medium"])
    small, medium = machine.resolve("gpt2"), machine.resolve("gpt2-medium")
    assert json.dumps(small[1]) == json.dumps(medium[1])
    assert small[0]["files"] != medium[0]["files"]


def test_shards_another_vocabulary_and_pickled_weights(machine: Machine, tmp_path: Path) -> None:
    folder = save_gpt2(tmp_path / "model", shard_size="100KB")
    save_other_tokenizer(folder)
    commit = machine.hub.publish("someone/shards", folder)
    _, tokenizer, place, vocabulary = machine.resolve("someone/shards")
    shards = {path.name for path in folder.glob("model-*.safetensors")}
    assert len(shards) > 1
    assert machine.requests() == {"config.json", "model.safetensors.index.json", *shards, "tokenizer.json"}
    assert (tokenizer["kind"], tokenizer["name"], tokenizer["revision"]) == ("hub", "someone/shards", commit)
    assert place == vocabulary

    old = tmp_path / "old"
    old.mkdir()
    for name in ("config.json", "pytorch_model.bin", "vocab.json", "merges.txt"):
        shutil.copy(folder / name, old)
    machine.hub.publish("someone/old", old)
    first = machine.resolve("someone/old")
    assert set(first[0]["files"]) == {"config.json", "pytorch_model.bin"}
    assert machine.requests() == {"config.json", "pytorch_model.bin", "vocab.json", "merges.txt"}
    assert machine.resolve("someone/old") == first
    assert not machine.hub.requests  # the absence of a safetensors file is cached too


def test_refusals_of_the_hub(machine: Machine, gpt2: Path, tmp_path: Path) -> None:
    machine.hub.publish("someone/chat", gpt2)
    machine.hub.publish("someone/secret", gpt2)
    machine.hub.gated.add("someone/secret")
    (tmp_path / "empty").mkdir()
    machine.hub.publish("someone/empty", tmp_path / "empty")
    url = machine.hub.url
    assert machine.resolve("someone/chad").startswith(
        f"model.base 'someone/chad' is neither a folder nor a model at {url};"
    )
    assert machine.resolve("someone/chat", "v9").startswith(f"model.base 'someone/chat' has no revision 'v9' at {url};")
    assert machine.resolve("someone/secret").startswith(
        f"model.base 'someone/secret' is gated: accept its terms at {url}/someone/secret, run `hf auth login`"
    )
    assert machine.resolve("someone/empty").startswith(f"model.base 'someone/empty' at {url} has no config.json;")
    assert machine.resolve("some one!").startswith("model.base 'some one!' is neither a folder nor a name that a hub")


def test_a_hub_out_of_reach_costs_seconds(machine: Machine) -> None:
    machine.hub.url = "http://127.0.0.1:9"
    before = time.monotonic()
    message = machine.resolve("gpt2-medium")
    assert time.monotonic() - before < 4
    assert message.startswith("model.base 'gpt2-medium' could not be fetched from http://127.0.0.1:9 (ConnectError: ")
    assert message.endswith(
        "check the connection and HF_ENDPOINT, or set model.base to a local folder or to scratch:mini."
    )
    offline = machine.resolve("gpt2-medium", HF_HUB_OFFLINE="1")
    assert "is not complete in the cache" in offline
    assert "HF_HUB_OFFLINE is set; unset it" in offline


def test_a_hub_that_never_answers_costs_seconds(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        machine.hub.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        before = time.monotonic()
        message = machine.resolve("gpt2", HF_HUB_ETAG_TIMEOUT="1", HF_HUB_DISABLE_TELEMETRY="1")
        assert time.monotonic() - before < 4
        assert "could not be fetched from" in message


def test_a_full_disk(machine: Machine, gpt2: Path) -> None:
    machine.hub.publish("gpt2", gpt2, PINNED["gpt2"])
    message = machine.resolve("gpt2", bytes_per_file=1_000_000)
    assert message.startswith(f"model.base 'gpt2' does not fit in {machine.home / 'hf' / 'hub'} (File too large);")
    assert machine.resolve("gpt2")[0]["revision"] == PINNED["gpt2"]

"""Datasets of the hub. Each call runs in its own process, because huggingface_hub reads its settings on import."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import Hub, serve

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from theta.corpus.readers import hub
from theta.corpus.readers.reading import read
from theta.errors import ThetaError
paths, known = json.loads(sys.argv[1])
answers = []
for path in paths:
    try:
        described = hub.resolve(path, known)
        blocks = [block for file in hub.locate(described).files for block in read(file)]
        answers.append([described, [[item.source, item.value] for block in blocks for item in block.items()]])
    except ThetaError as fault:
        answers.append(str(fault))
assert not {"torch", "transformers"} & set(sys.modules)
print(json.dumps(answers))
"""
CARD = """---
configs:
- {config_name: en, default: true, data_files: [{split: train, path: en/*.jsonl}, {split: test, path: more.jsonl}]}
- {config_name: de, data_files: de.jsonl}
---
"""


@dataclass
class Machine:
    """A computer with an empty cache and a hub."""

    home: Path
    hub: Hub

    def resolve(self, *paths: str, known: Any = None, **environment: str) -> list[Any]:
        """Return the descriptor and the items of each dataset, or the error message."""
        environment = {
            "HOME": str(self.home), "HF_HOME": str(self.home / "hf"), "HF_ENDPOINT": self.hub.url, "NO_PROXY": "*",
            "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment,
        }  # fmt: skip
        command = [sys.executable, "-c", SCRIPT, json.dumps([paths, known])]
        done = subprocess.run(command, env=environment, cwd=self.home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers: list[Any] = json.loads(done.stdout.splitlines()[-1])
        return answers


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "home").mkdir()
    with serve() as hub:
        yield Machine(tmp_path / "home", hub)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    (folder / "en").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "en/a.jsonl").write_text('{"question": "a?", "answer": 1.10}\n{"question": "b?", "other": []}\n')
    (folder / "de.jsonl").write_text('{"frage": "c?"}\n')
    (folder / "more.jsonl").write_text('{"question": "d?"}\n')
    return folder


def test_the_commit_is_pinned_and_no_network_is_needed_again(machine: Machine, dataset: Path) -> None:
    commit = machine.hub.publish("datasets/ann/chats", dataset)
    [[described, items]] = machine.resolve("hf://datasets/ann/chats")
    assert described == {
        "kind": "hub", "path": "hf://datasets/ann/chats", "name": "ann/chats", "revision": commit, "config": "en",
        "split": "train", "other_splits": ["test"], "files": ["en/a.jsonl"],
    }  # fmt: skip
    assert items == [
        ["hf://datasets/ann/chats/en/a.jsonl#1", {"question": "a?", "answer": "1.10"}],
        ["hf://datasets/ann/chats/en/a.jsonl#2", {"question": "b?", "other": []}],
    ]
    (dataset / "en/b.jsonl").write_text('{"question": "new?"}\n')
    machine.hub.publish("datasets/ann/chats", dataset)
    machine.hub.requests.clear()
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert machine.resolve("hf://datasets/ann/chats", known=described, **environment) == [[described, items]]
    assert machine.hub.requests == []


def test_revision_config_and_split_choose_the_files(machine: Machine, dataset: Path, tmp_path: Path) -> None:
    old = machine.hub.publish("datasets/ann/chats", dataset)
    (tmp_path / "empty").mkdir()
    machine.hub.publish("datasets/ann/chats", tmp_path / "empty")
    expected: dict[str, Any] = {
        f"hf://datasets/ann/chats@{old}/de": ["de.jsonl#1", {"frage": "c?"}],
        f"hf://datasets/ann/chats@{old}:test": ["more.jsonl#1", {"question": "d?"}],
        f"hf://datasets/ann/chats@{old}/en:test": ["more.jsonl#1", {"question": "d?"}],
    }
    for (described, items), [source, value] in zip(machine.resolve(*expected), expected.values(), strict=True):
        assert described["revision"] == old
        assert items == [[f"hf://datasets/ann/chats/{source}", value]]


def test_what_cannot_be_fetched_is_an_error_of_one_line(machine: Machine, dataset: Path, tmp_path: Path) -> None:
    machine.hub.publish("datasets/ann/chats", dataset)
    machine.hub.publish("datasets/ann/gated", dataset)
    machine.hub.gated.add("datasets/ann/gated")
    (tmp_path / "empty").mkdir()
    machine.hub.publish("datasets/ann/empty", tmp_path / "empty")
    messages = {
        "ann/none": f"is not a dataset at {machine.hub.url}; correct the name",
        "ann/gated": "is gated: accept its terms",
        "ann/chats@v9": f"has no revision 'v9' at {machine.hub.url}",
        "ann/chats/fr": "cannot be used (BuilderConfig 'fr' not found. Available: ['en', 'de'])",
        "ann/chats:dev": "the dataset has no split 'dev'; its splits are test, train",
        "ann/empty": "holds no files that `datasets` can read",
    }
    said = dict(zip(messages, machine.resolve(*(f"hf://datasets/{name}" for name in messages)), strict=True))
    for name, message in messages.items():
        assert said[name].startswith(f"data.path 'hf://datasets/{name}'")
        assert message in said[name]
    unreachable = {"check the connection": {"HF_ENDPOINT": "http://127.0.0.1:9"}, "is set": {"HF_HUB_OFFLINE": "1"}}
    for message, environment in unreachable.items():
        assert message in machine.resolve("hf://datasets/ann/chats", **environment)[0]

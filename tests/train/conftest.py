"""A small project whose train stage runs in processes of its own."""

import json
import shutil
from pathlib import Path

import pytest

from stages.fetch import fetch
from stages.prepare import prepare
from stages.tokenize import tokenize
from tests.support.train_stage import ROOT, finish, weights
from theta.files import write_json
from theta.model import network
from theta.settings import read
from theta.tokens.vocabulary import GPT2_FOLDER


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
    # Small, because every process of these tests writes its state, three times the weights, every few steps.
    network.save(network.new(1, 2, 32, seed=3), folder / "mine")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(GPT2_FOLDER / name, folder / "mine")
    values = read(ROOT / "params.yaml")
    values["model"] |= {"base": "mine", "rehearsal": "none"}
    values["data"] |= {"path": "Datasets/mine", "validation_fraction": 0.1, "test_fraction": 0.1}
    values["tokenizer"]["max_length"] = 64
    values["train"] |= {"epochs": 3, "tokens_per_step": 128, "learning_rate": 1e-3, "base_share": 0.0}
    values["machine"] |= {"threads": 1, "precision": "float32", "steps_per_checkpoint": 2}
    (folder / "params.yaml").write_text(json.dumps(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fetch()
        prepare()
        tokenize()
    return folder


@pytest.fixture(scope="module")
def uninterrupted(project: Path) -> str:
    """The digest of the weights of an uninterrupted run."""
    finish(project)
    return weights(project)

import dataclasses
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from theta.export.model_card import Facts, card, git_revision
from theta.generate.settings import GenerationSettings

EVALUATE = {
    "test": {"loss_nats_per_token": 2.5, "perplexity": None},
    "base": {"loss_nats_per_token": 3.25, "perplexity": 25.8},
    "replies": {"chrf": 31.5},
    "domains": {"linux|bsd": {"loss_nats_per_token": 2.25, "base_loss_nats_per_token": 3.125, "documents": 12}},
}
BASE = {"kind": "hub", "name": "openai-community/gpt2", "revision": "607a30d", "files": {"config.json": "abc"}}
FACTS = Facts(
    name="tiny | `one`",
    parameters=124_000_000,
    config={"n_layer": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": 50262},
    dtype="float32",
    generation=GenerationSettings(),
    license="cc-by-4.0",
    revision="0123abc",
    prepare={"kept": 650, "conversations": {"train": 593}},
    tokenize={"test": {"documents": 5, "tokens": 120}, "train": {"documents": 50, "tokens": 1234}},
    train={"steps": 56, "stopped_early": False},
    evaluate=EVALUATE,
    provenance={"settings": {"learning_rate": 5e-5}, "base": BASE, "versions": {"torch": "2.13.0"}},
)


def test_front_matter_is_yaml() -> None:
    front = ModelCard(card(FACTS)).data.to_dict()
    assert front["model_name"] == "tiny | `one`"
    assert front["pipeline_tag"] == "text-generation"
    assert front["base_model"] == "openai-community/gpt2"
    assert front["license"] == "cc-by-4.0"


def test_a_licence_is_named_only_if_it_is_known() -> None:
    text = card(dataclasses.replace(FACTS, license=None))
    assert "license" not in ModelCard(text).data.to_dict()
    assert "Licence: not stated. Those of its base and of its conversations apply." in text.splitlines()


def test_figures_come_first_and_raw_tables_last() -> None:
    lines = card(FACTS).splitlines()
    heads = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert heads == ["Use", "Lineage", "Limits", "Data", "Training", "Evaluation", "Provenance"]
    figure = "| Loss on conversations that training never saw, in nats per token (the base) | 2.50 (3.25) |"
    assert lines.index(figure) < lines.index("## Use")


def test_answers_are_the_first_figures() -> None:
    given = {
        "trained": {"questions": 1200, "right": 1086, "share": 0.905, "verbatim": 900},
        "new_wordings": None,
    }
    text = card(dataclasses.replace(FACTS, evaluate={**EVALUATE, "answers": given}))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[2] == "| Trained questions that get their answer | 90% of 1,200 |"
    assert "The same in wordings" not in text


def test_the_lineage_goes_back_to_the_model_of_the_hub() -> None:
    data = {"path": "Datasets/mine", "files": 1, "sha256": "0" * 64}
    made_by = {"base": BASE, "data": data, "settings": {"epochs": 3, "learning_rate": 1e-3}, "revision": "abc"}
    release = {"kind": "local", "name": "models/r/theta_final", "revision": None, "made_by": made_by}
    text = card(dataclasses.replace(FACTS, provenance={"base": release}))
    lines = text.splitlines()
    start = lines.index("## Lineage")
    assert lines[start + 2] == "- This model was fine-tuned from models/r/theta_final."
    assert lines[start + 3] == (
        "- models/r/theta_final was fine-tuned from openai-community/gpt2 at revision 607a30d, on Datasets/mine "
        "(1 file, SHA-256 000000000000; epochs 3, learning_rate 0.001), at git revision abc."
    )
    assert ModelCard(text).data.to_dict()["base_model"] == "openai-community/gpt2"
    assert "made_by" not in text


@pytest.mark.parametrize("name", ["Rocket 🚀", "家", 'a "quoted" \\ name: #1', "- yes", "é"])
def test_any_name_is_read_back_from_the_front_matter(name: str) -> None:
    base = {**BASE, "name": name}
    text = card(dataclasses.replace(FACTS, name=name, provenance={"base": base}))
    front = ModelCard(text.encode().decode()).data.to_dict()
    assert (front["model_name"], front["base_model"]) == (name, name)


def test_the_card_claims_no_language() -> None:
    """The conversations may be in any language."""
    assert "language" not in ModelCard(card(FACTS)).data.to_dict()


@pytest.mark.parametrize(
    "line",
    [
        "# tiny \\| \\`one\\`",
        "A GPT-2 of 124.0M parameters (12 layers, width 768, 1024 positions, 50,262 tokens) with float32",
        "weights, fine-tuned from openai-community/gpt2 at revision 607a30d with Theta.",
        "| conversations.train | 593 |",
        "| what | train | test |",
        "| tokens | 1,234 | 120 |",
        "| stopped_early | no |",
        "| learning_rate | 5e-05 |",
        "| loss_nats_per_token | 2.5 | 3.25 |",
        "| perplexity | - | 25.8 |",
        "| linux\\|bsd | 2.25 | 3.125 | 12 |",
        "| chrf | 31.5 |",
        "| base.files.config.json | abc |",
        "| versions.torch | 2.13.0 |",
        "Project at git revision `0123abc`.",
    ],
)
def test_the_card_contains(line: str) -> None:
    assert line in card(FACTS).splitlines()


def test_answers_given_come_first_and_only_if_they_were_measured() -> None:
    counts = {"questions": 200, "right": 181, "share": 0.905, "verbatim": 150}
    text = card(dataclasses.replace(FACTS, evaluate={**EVALUATE, "answers": {"trained": counts, "new_wordings": None}}))
    row = "| as trained | 200 | 181 | 90.5% | 150 |"
    assert text.index("## Use") < text.index("## Evaluation") < text.index(row) < text.index("Held-out loss")
    assert "in new wordings |" not in text
    assert "Answers given" not in card(FACTS)


def test_a_model_without_a_test_split_has_no_loss() -> None:
    evaluate = {"test": None, "base": None, "domains": {}, "replies": {"replies": 0}}
    text = card(dataclasses.replace(FACTS, evaluate=evaluate))
    assert "No conversations were held back for a test" in text
    assert "Held-out loss" not in text


def test_absent_figures_are_marked() -> None:
    text = card(dataclasses.replace(FACTS, prepare=None, tokenize=None, train=None, evaluate=None, provenance=None))
    assert text.count("Not measured.") == 7
    assert "trained from an unknown base" in text
    assert "base_model" not in text


def test_a_new_model_is_not_called_fine_tuned() -> None:
    base = {"kind": "scratch", "name": "scratch:mini", "revision": None}
    text = card(dataclasses.replace(FACTS, provenance={"base": base}))
    assert "trained from random weights (scratch:mini) with Theta" in text


def test_git_revision(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    assert git_revision(tmp_path) == "unknown"
    assert git_revision(tmp_path / "absent") == "unknown"
    git("init", "--quiet")
    assert git_revision(tmp_path) == "unknown"  # no commit yet
    (tmp_path / "params.yaml").write_text("a: 1\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    commit = git("rev-parse", "HEAD").strip()
    assert git_revision(tmp_path) == commit
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/train.json").write_text("{}")
    (tmp_path / "dvc.lock").write_text("")
    assert git_revision(tmp_path) == commit  # files that a run itself writes
    (tmp_path / "params.yaml").write_text("a: 2\n")
    assert git_revision(tmp_path) == f"{commit}+changes"

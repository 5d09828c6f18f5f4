"""The tokenizer folder opens in plain transformers and in Theta."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from theta.conversation.messages import Message
from theta.conversation.template import render, render_prompt
from theta.errors import DataError
from theta.tokens.vocabulary import Vocabulary

CHAT: list[dict[str, Any]] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello <b> world"}]


@pytest.fixture(scope="module")
def folder(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "saved"
    vocabulary.save(path, max_length=1024)
    return path


def test_transformers_reads_the_same_vocabulary(folder: Path, vocabulary: Vocabulary) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert (len(tokenizer), tokenizer.model_max_length, tokenizer.padding_side) == (vocabulary.size, 1024, "left")
    assert tokenizer.eos_token_id == vocabulary.end_id
    assert tokenizer.pad_token_id == vocabulary.pad_id
    ours, _ = vocabulary.encode([*render_prompt([Message(**message) for message in CHAT])])
    theirs = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert theirs == ours


def test_assistant_mask_of_the_training_template_is_what_theta_learns(folder: Path, vocabulary: Vocabulary) -> None:
    from transformers import AutoTokenizer

    chat = [*CHAT, {"role": "assistant", "content": "Hi!"}]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    training = (folder / "chat_template_training.jinja").read_text(encoding="utf-8")
    encoded = tokenizer.apply_chat_template(
        chat, chat_template=training, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, learned = vocabulary.encode([*render([Message(**message) for message in chat])])
    assert encoded["input_ids"] == ids
    assert [bool(flag) for flag in encoded["assistant_masks"]] == learned


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template_training.jinja"])
def test_an_unknown_role_is_refused(folder: Path, name: str) -> None:
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    template = (folder / name).read_text(encoding="utf-8")
    with pytest.raises(TemplateError, match="Role tool, expected system, user or assistant"):
        tokenizer.apply_chat_template([*CHAT, {"role": "tool", "content": "3"}], chat_template=template)


def test_a_base_that_theta_saved_gives_the_same_files_again(folder: Path, tmp_path: Path) -> None:
    """Special tokens and template are kept, and added once, when training goes on from an exported model."""
    Vocabulary.from_base(folder).save(tmp_path / "again", max_length=1024)
    names = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == names
    assert [(folder / name).read_bytes() for name in names] == [
        (tmp_path / "again" / name).read_bytes() for name in names
    ]


def test_special_tokens_of_a_base_stay_special(vocabulary: Vocabulary, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    base.add_special_tokens([AddedToken("<|separator|>", special=True)])
    base.save(str(tmp_path / "tokenizer.json"))
    Vocabulary.from_base(tmp_path).save(tmp_path / "saved", max_length=1024)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved", local_files_only=True)
    assert "<|separator|>" in tokenizer.all_special_tokens
    assert tokenizer("a<|separator|>b")["input_ids"][1] == base.token_to_id("<|separator|>")


def test_vocab_and_merges_alone_are_a_base(folder: Path, tmp_path: Path, vocabulary: Vocabulary) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert Vocabulary.from_base(tmp_path).size == vocabulary.size


def test_faults_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither tokenizer\.json nor vocab\.json"):
        Vocabulary.from_base(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        Vocabulary.load(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(DataError, match="BPE vocabulary of 0 entries"):
        Vocabulary.from_base(tmp_path)

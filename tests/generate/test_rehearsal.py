"""What a base writes for its own rehearsal."""

from pathlib import Path

import pytest
from transformers import GPT2LMHeadModel

from theta.conversation.template import SPECIAL_TOKENS
from theta.generate import rehearsal
from theta.generate.rehearsal import answers_questions, replies, texts
from theta.model import network
from theta.tokens.vocabulary import GPT2_SIZE, Vocabulary

STARTER = Path(__file__).resolve().parents[2] / "models" / "starter"


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary) -> GPT2LMHeadModel:
    """A random model, in training's form: with rows of its embedding that represent no token."""
    made = network.new(1, 2, 16, seed=0)
    network.resize(made, vocabulary.size)
    return made.eval()


def test_texts_have_the_tokens_that_were_asked_for(model: GPT2LMHeadModel, vocabulary: Vocabulary) -> None:
    heard: list[float] = []
    written = list(texts(model, vocabulary, heard.append, tokens=2000))
    assert [list(each) for each in written] == [["text"]] * len(written)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert not any(token in each["text"] for each in written for token in SPECIAL_TOKENS)
    assert list(texts(model, vocabulary, heard.append, tokens=2000)) == written, "the seeds are fixed"


@pytest.mark.slow
def test_replies_belong_to_their_questions() -> None:
    starter = network.load(STARTER).eval()
    known = Vocabulary.from_base(STARTER)
    questions = ["What is a process?", "What is a file?", "What does a router do?"]
    written = list(replies(starter, known, questions, lambda _: None, tokens=400))
    assert {each["question"] for each in written} <= set(questions)
    assert len(written) == len({each["question"] for each in written}) > 0
    assert all(each["answer"].endswith((".", "!", "?", "`", ":")) for each in written), "replies that ended"


def test_writing_ends_with_the_time(
    model: GPT2LMHeadModel, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "SECONDS", 1e-9)
    assert len(list(texts(model, vocabulary, lambda _: None))) <= 1


def test_only_a_base_that_knows_the_special_tokens_answers(vocabulary: Vocabulary) -> None:
    assert answers_questions(vocabulary, vocabulary.size)
    assert not answers_questions(vocabulary, GPT2_SIZE)

"""What a base writes for its own rehearsal."""

import pytest
from transformers import GPT2LMHeadModel

from theta.conversation.template import SPECIAL_TOKENS
from theta.generate import rehearsal
from theta.generate.rehearsal import texts
from theta.model import network
from theta.tokens.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary) -> GPT2LMHeadModel:
    """A random model, in training's form: with rows of its embedding that represent no token."""
    made = network.new(1, 2, 16, seed=0)
    network.resize(made, vocabulary.size)
    return made.eval()


def test_texts_have_the_tokens_that_were_asked_for(model: GPT2LMHeadModel, vocabulary: Vocabulary) -> None:
    heard: list[float] = []
    written = list(texts(model, vocabulary, heard.append, tokens=2000))
    assert all(written)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert not any(token in each for each in written for token in SPECIAL_TOKENS)
    assert list(texts(model, vocabulary, heard.append, tokens=2000)) == written, "the seeds are fixed"


def test_writing_ends_with_the_time(
    model: GPT2LMHeadModel, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "SECONDS", 1e-9)
    assert len(list(texts(model, vocabulary, lambda _: None))) <= 1

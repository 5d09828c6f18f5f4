import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from tests.support.tiny import CONVERSATIONS, conversation, save_tokens
from theta.errors import BaseModelError, SettingsError
from theta.evaluate import report
from theta.evaluate.likelihood import Scores, documents_by_domain, figures, measure
from theta.model import network
from theta.tokens.store import Store
from theta.tokens.vocabulary import Vocabulary

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary) -> GPT2LMHeadModel:
    """A model with the padding rows of training."""
    model = network.new(2, 2, 32, seed=0)
    network.resize(model, vocabulary.size)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(20)  # otherwise such a small model finds all tokens equally likely
    return model


def test_alone_or_packed_with_others_a_document_scores_the_same(
    tmp_path: Path, model: GPT2LMHeadModel, test_split: Store, vocabulary: Vocabulary
) -> None:
    packed = measure(model, test_split, vocabulary.size, 4096, CPU)
    for document, each in enumerate(CONVERSATIONS):
        store = save_tokens(tmp_path / "one.arrow", (each,), vocabulary)
        alone = measure(model, store, vocabulary.size, 4096, CPU)
        tokens = test_split.learned_counts[document]
        assert alone.nats[0] / tokens == pytest.approx(packed.nats[document] / tokens, abs=1e-5)
        assert alone.correct[0] == packed.correct[document]


def test_equals_the_loss_of_transformers(model: GPT2LMHeadModel, test_split: Store, vocabulary: Vocabulary) -> None:
    scores = measure(model, test_split, vocabulary.size, 4096, CPU)
    network.trim(model, vocabulary.size)
    try:
        for document in range(len(test_split)):
            ids, labels = (torch.from_numpy(part.copy()).long()[None] for part in test_split[document])
            with torch.no_grad():
                expected = model.eval()(ids, labels=labels)
            found = scores.nats[document] / test_split.learned_counts[document]
            assert found == pytest.approx(expected.loss.item(), rel=1e-6, abs=1e-5)
            choices = expected.logits[0, :-1].argmax(-1)
            assert scores.correct[document] == int((choices == labels[0, 1:]).sum())
    finally:
        network.resize(model, vocabulary.size)


def test_the_model_is_left_in_its_mode(model: GPT2LMHeadModel, test_split: Store, vocabulary: Vocabulary) -> None:
    model.train()
    first = measure(model, test_split, vocabulary.size, 4096, CPU)
    assert model.training
    # Dropout is off while measuring, in either mode.
    assert first.nats.tolist() == measure(model.eval(), test_split, vocabulary.size, 4096, CPU).nats.tolist()


def test_figures_are_sums_divided_once(test_split: Store) -> None:
    counts = test_split.learned_counts
    scores = Scores(nats=counts * np.array([1.0, 2.0, 3.0, 4.0, 5.0]), correct=counts // 2)
    found = figures(scores, test_split, [0, 1])
    nats, tokens = float(counts[0] + 2 * counts[1]), int(counts[0] + counts[1])
    text = "Use `ls`." + "Use `ls -a`; it shows names that begin with a dot, too."
    assert found == {
        "loss_nats_per_token": pytest.approx(nats / tokens),
        "perplexity": pytest.approx(math.exp(nats / tokens)),
        "bits_per_byte": pytest.approx(nats / math.log(2) / len(text)),
        "token_accuracy": pytest.approx(int(counts[0] // 2 + counts[1] // 2) / tokens),
        "tokens": tokens,
        "documents": 2,
    }
    assert nats / tokens != pytest.approx(1.5)  # the mean of means


def test_bytes_are_those_of_utf8(test_split: Store) -> None:
    scores = Scores(np.ones(5), np.zeros(5, dtype=np.int64))
    text_bytes = len("A file. Ein Gerät ist auch eine Datei.".encode())
    assert figures(scores, test_split, [4])["bits_per_byte"] == pytest.approx(1 / math.log(2) / text_bytes)


def test_perplexity_beyond_a_float_is_none(test_split: Store) -> None:
    scores = Scores(test_split.learned_counts * 1000.0, np.zeros(5, dtype=np.int64))
    assert figures(scores, test_split, [0])["perplexity"] is None
    assert figures(scores, test_split, [0])["loss_nats_per_token"] == 1000


def test_the_smallest_domains_are_one(tmp_path: Path, vocabulary: Vocabulary) -> None:
    names = [f"topic {number:02}" for number in range(30)]
    conversations = tuple(conversation(name, "Why?", "Because.") for name in [*names, names[29]])
    groups = documents_by_domain(save_tokens(tmp_path / "test.arrow", conversations, vocabulary))
    assert list(groups) == ["(others)", *names[:19], names[29]]
    assert sorted(document for group in groups.values() for document in group) == list(range(31))


def test_metrics_hold_base_and_difference(test_split: Store) -> None:
    tuned = Scores(test_split.learned_counts * 2.0, test_split.learned_counts)
    base = Scores(test_split.learned_counts * 5.12345678, np.zeros(5, dtype=np.int64))
    found = report.rounded(report.likelihood(test_split, tuned, base))
    assert found["test"]["loss_nats_per_token"] == 2
    assert found["base"]["loss_nats_per_token"] == 5.12346
    assert found["difference"]["loss_nats_per_token"] == -3.12346
    assert found["difference"]["token_accuracy"] == 1
    assert list(found["domains"]) == ["linux", "networking", "smalltalk"]
    assert found["domains"]["linux"]["documents"] == 3


def test_a_microbatch_must_hold_the_longest_document(
    model: GPT2LMHeadModel, test_split: Store, vocabulary: Vocabulary
) -> None:
    longest = int(test_split.lengths.max())
    with pytest.raises(SettingsError, match=f"machine.tokens_per_microbatch is 16, .* has {longest} tokens"):
        measure(model, test_split, vocabulary.size, 16, CPU)


def test_damaged_weights_are_named(test_split: Store, vocabulary: Vocabulary) -> None:
    model = network.new(1, 1, 8, seed=0, vocabulary_size=vocabulary.size)
    model.transformer.ln_f.weight.data[0] = torch.nan
    with pytest.raises(BaseModelError, match=r"linux\.json#2 is not finite"):
        measure(model, test_split, vocabulary.size, 4096, CPU)

"""Packed equals one document at a time; our loss equals transformers'; resizing leaves the model as it was."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from transformers import GPT2LMHeadModel

from theta.errors import BaseModelError
from theta.model import forward, network
from theta.model.attention import LONGEST_PLAIN, Packing, packed_attention
from theta.model.loss import CPU_MULTIPLE, LearnedRows, Loss, mean_nats, token_scores
from theta.model.rows import Row, predicting_states, row_nats
from theta.tokens.store import IGNORED, Document, Store, write

VOCABULARY_SIZE = 300
LENGTHS = (17, 1, 40, 2, 29, 64)


@pytest.fixture
def model() -> GPT2LMHeadModel:
    made = network.new(2, 2, 32, seed=1, vocabulary_size=VOCABULARY_SIZE)
    with torch.no_grad():
        made.transformer.wte.weight.mul_(2)  # a spread of logits as in a trained model
    return made.eval()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "train.arrow", LENGTHS)


def make_store(path: Path, lengths: Sequence[int], *, vocabulary_size: int = VOCABULARY_SIZE) -> Store:
    """Random documents whose second half is learned."""
    generator = torch.Generator().manual_seed(0)
    documents = []
    for i, length in enumerate(lengths):
        ids = torch.randint(vocabulary_size, (length,), generator=generator).tolist()
        documents.append(Document(ids, [k >= length // 2 for k in range(length)], "d", f"x#{i}", length))
    write(path, documents)
    return Store(path)


def transformers_nats(model: GPT2LMHeadModel, store: Store, document: int) -> Tensor:
    """transformers' own mean loss of one document, as a sum."""
    ids, labels = (torch.from_numpy(part.copy()).long()[None] for part in store[document])
    learned = int((labels[0, 1:] != IGNORED).sum())
    return model(input_ids=ids, labels=labels, use_cache=False).loss * learned if learned else torch.zeros(())


def test_packed_equals_one_document_at_a_time(model: GPT2LMHeadModel, store: Store) -> None:
    alone = [predicting_states(model, Row.of(store, [i], model.device)) for i in range(len(store))]
    packed = predicting_states(model, Row.of(store, range(len(store)), model.device))
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-6, rtol=1e-5)


def test_all_blocks_are_compiled_once(model: GPT2LMHeadModel, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()  # runs the graph as it is, so that no compiler is needed
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    monkeypatch.setattr(forward, "_compiled", forward._compiled.__wrapped__)
    row = Row.of(store, range(len(store)), model.device)
    compiled = predicting_states(model, row, forward.Passes(compiled=True))
    compiled.sum().backward()
    torch.testing.assert_close(compiled, predicting_states(model, row))
    assert counter.frame_count == 1


def test_packed_loss_and_gradients_equal_transformers(model: GPT2LMHeadModel, store: Store) -> None:
    documents = range(len(store))
    theirs = torch.stack([transformers_nats(model, store, i) for i in documents]).sum()
    theirs.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    network.resize(model, VOCABULARY_SIZE)  # pads 300 columns to 320
    ours, _ = row_nats(model, Row.of(store, documents, model.device), Loss(VOCABULARY_SIZE))
    ours.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(
            parameter.grad[: len(wanted[name])], wanted[name], rtol=1e-4, atol=1e-5, msg=f"{name}: {{}}".format
        )


def test_documents_do_not_see_each_other(model: GPT2LMHeadModel, store: Store) -> None:
    """The documents before a document do not change its states."""
    last = predicting_states(model, Row.of(store, [2], model.device))
    for before in ([0], [4, 5], [5, 1, 3]):
        states = predicting_states(model, Row.of(store, [*before, 2], model.device))
        torch.testing.assert_close(states[-len(last) :], last, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "lengths",
    [(70, 40, 30, 1, 2, 100, 17), (129, 128, 127, 1), (LONGEST_PLAIN + 1, 5), (32, 96), (LONGEST_PLAIN,)],
    ids=str,
)
def test_grouped_attention_equals_one_document_at_a_time(lengths: tuple[int, ...]) -> None:
    """In bfloat16, short documents attend in padded groups; in float32, each attends alone."""
    generator = torch.Generator().manual_seed(0)
    packing = Packing.of(lengths, torch.device("cpu"))
    qkv = torch.randn(1, sum(lengths), 3 * 32, generator=generator).bfloat16()
    gradient = torch.randn(1, sum(lengths), 32, generator=generator).bfloat16()

    def attend(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        states = qkv.to(dtype).requires_grad_()
        mixed = packed_attention(states, packing, 2, 0.25)
        return mixed.float(), torch.autograd.grad(mixed, states, gradient.to(dtype))[0].float()

    for ours, wanted in zip(attend(torch.bfloat16), attend(torch.float32), strict=True):
        assert (ours - wanted).norm() < 0.01 * wanted.norm()  # bfloat16 has 8 bits


def test_padding_changes_no_gradient(model: GPT2LMHeadModel, tmp_path: Path) -> None:
    """A row on a CPU is padded to a multiple, and so are its learned positions."""
    store = make_store(tmp_path / "padded.arrow", (17, 10))
    row = Row.of(store, [0, 1], model.device)
    assert row.ids.shape[1] == 2 * CPU_MULTIPLE
    theirs = transformers_nats(model, store, 0) + transformers_nats(model, store, 1)
    wanted = torch.autograd.grad(theirs, list(model.parameters()))
    row_nats(model, row, Loss(VOCABULARY_SIZE))[0].backward()
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [1, 16, 35, 150])
def test_nats_equal_cross_entropy(rows: int, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, 16, generator=generator, requires_grad=True)
    weight = torch.randn(128, 16, generator=generator, requires_grad=True)
    targets = torch.randint(100, (rows,), generator=generator)
    ours = (
        8 * mean_nats(hidden, weight, targets, Loss(100, 1 / 8, positions_per_chunk=70, label_smoothing=smoothing))[0]
    )
    gradients = torch.autograd.grad(ours * 0.25, (hidden, weight))
    logits = (hidden @ weight.T)[:, :100]
    theirs = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    wanted = torch.autograd.grad(theirs * 0.25, (hidden, weight))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-5)
    assert not gradients[1][100:].any(), "padded columns"
    nats, correct = token_scores(hidden, weight, targets, 100)
    unsmoothed = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(nats.sum(), unsmoothed, rtol=1e-5, atol=0)
    assert torch.equal(correct, logits.argmax(-1) == targets)


def test_of_a_fixed_output_matrix_only_the_learned_rows_get_a_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(20, 16, generator=generator, requires_grad=True)
    weight = torch.randn(128, 16, generator=generator, requires_grad=True)
    targets = torch.randint(100, (20,), generator=generator)
    loss = Loss(100, positions_per_chunk=16)
    wanted = torch.autograd.grad(mean_nats(hidden, weight, targets, loss)[0], (hidden, weight))
    fixed = weight.detach()
    alone = torch.autograd.grad(mean_nats(hidden, fixed, targets, loss)[0], hidden)
    rows = fixed[95:100].clone().requires_grad_()
    with_rows = torch.autograd.grad(mean_nats(hidden, fixed, targets, loss, LearnedRows(rows, 95))[0], (hidden, rows))
    assert torch.equal(alone[0], wanted[0])
    assert torch.equal(with_rows[0], wanted[0])
    torch.testing.assert_close(with_rows[1], wanted[1][95:100], rtol=1e-5, atol=1e-6)


def test_new_rows_start_at_the_mean_and_padding_goes_away_again(model: GPT2LMHeadModel) -> None:
    before = model.transformer.wte.weight.detach().clone()
    network.resize(model, VOCABULARY_SIZE + 5)
    rows = model.transformer.wte.weight
    assert rows.shape[0] == 320
    assert torch.equal(rows[:VOCABULARY_SIZE], before)
    assert torch.equal(rows[VOCABULARY_SIZE : VOCABULARY_SIZE + 5], before.mean(0).expand(5, -1))
    assert model.lm_head.weight is rows
    network.trim(model, VOCABULARY_SIZE + 5)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.transformer.wte.weight.shape[0] == model.config.vocab_size == VOCABULARY_SIZE + 5


@torch.no_grad()
def test_special_tokens_do_not_wreck_the_model(model: GPT2LMHeadModel, store: Store) -> None:
    """GPT-2's embeddings share a direction in which all logits are far below zero; a random row stays near zero
    and always wins. Mean rows do not change the loss of plain text."""
    direction = torch.nn.functional.normalize(torch.ones(32), dim=0)
    model.transformer.wte.weight += 3 * direction
    model.transformer.ln_f.bias.copy_(-10 * direction)
    before = float(transformers_nats(model, store, 5))
    network.resize(model, VOCABULARY_SIZE + 5)
    network.trim(model, VOCABULARY_SIZE + 5)
    with_mean_rows = float(transformers_nats(model, store, 5))
    model.transformer.wte.weight[VOCABULARY_SIZE:] = 0.02 * torch.randn(5, 32)
    with_random_rows = float(transformers_nats(model, store, 5))
    assert with_mean_rows == pytest.approx(before, rel=0.02)
    assert with_random_rows > 2 * before


def test_saved_weights_load_unchanged(model: GPT2LMHeadModel, tmp_path: Path) -> None:
    network.save(model, tmp_path / "saved")
    again = network.load(tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_half_precision_checkpoint_loads_in_float32(model: GPT2LMHeadModel, tmp_path: Path) -> None:
    network.save(model.bfloat16(), tmp_path / "saved")
    assert network.load(tmp_path / "saved").dtype == torch.float32


def test_broken_weights_are_one_clear_line(model: GPT2LMHeadModel, tmp_path: Path) -> None:
    network.save(model, tmp_path / "saved")
    (tmp_path / "saved" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(BaseModelError, match=r"saved cannot be loaded: .+"):
        network.load(tmp_path / "saved")


def test_the_same_seed_gives_the_same_new_model() -> None:
    one, two, other = (network.new(1, 2, 8, seed=seed, vocabulary_size=50) for seed in (3, 3, 4))
    assert torch.equal(one.transformer.wte.weight, two.transformer.wte.weight)
    assert not torch.equal(one.transformer.wte.weight, other.transformer.wte.weight)


def test_mixing_in_the_base_does_not_change_tokens_that_it_lacks(model: GPT2LMHeadModel) -> None:
    base = network.new(2, 2, 32, seed=2, vocabulary_size=VOCABULARY_SIZE - 5)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    network.mix_in(model, base, 0.25)
    theirs = dict(base.named_parameters())
    for name, ours in model.named_parameters():
        rows = len(theirs[name])
        torch.testing.assert_close(ours[:rows], 0.75 * before[name][:rows] + 0.25 * theirs[name])
        assert torch.equal(ours[rows:], before[name][rows:])
    assert len(theirs["transformer.wte.weight"]) < len(model.transformer.wte.weight)

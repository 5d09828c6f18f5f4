"""The loop: exact under accumulation, exact after an interruption, and it learns to stop."""

import resource
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from tests.support.runs import (
    END,
    VOCABULARY_SIZE,
    assert_equal_to_the_bit,
    make_store,
    new_run,
    terminate_at,
    weights,
    without_time,
)
from theta.errors import SettingsError, StorageError, TrainingError, TrainingInterruptedError
from theta.model import network
from theta.optim.adamw import adamw
from theta.optim.update import Gradients
from theta.tokens.store import Document, Store, write
from theta.train.choose import tokens_of_run
from theta.train.loop import train
from theta.train.records import report
from theta.train.row_work import RowWork
from theta.train.run import Run
from theta.train.samples import Samples
from theta.train.step import accumulate_gradients


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path)


@pytest.mark.parametrize("tokens_per_microbatch", [40, 64, 90])
def test_microbatches_do_not_change_the_weights(tmp_path: Path, tokens_per_microbatch: int) -> None:
    """Other microbatches round differently: the difference stays at the size of float32 rounding."""
    trained = []
    for size in (128, tokens_per_microbatch):
        run = new_run(tmp_path, tokens_per_microbatch=size, dropout=0.0, epochs=1)
        list(train(run))
        trained.append(weights(run))
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor, atol=2e-5, rtol=1e-4, msg=f"{name}: {{}}".format)


@pytest.mark.parametrize("in_place", [False, True])
def test_the_gradient_of_a_step_equals_plain_transformers(run: Run, in_place: bool) -> None:
    """Packed rows, several microbatches and the chunked loss against transformers' loss over one padded batch."""
    documents = [3, 1, 8, 20, 11, 5]
    theirs = network.new(2, 2, 32, seed=0, vocabulary_size=VOCABULARY_SIZE).eval()
    longest = int(run.samples.lengths[documents].max())
    ids, labels = (torch.full((len(documents), longest), fill) for fill in (0, -100))
    for row, document in enumerate(documents):
        for target, source in zip((ids, labels), run.samples[document], strict=True):
            target[row, : len(source)] = torch.from_numpy(source.copy())
    mask = torch.arange(longest) < torch.from_numpy(run.samples.lengths[documents])[:, None]
    wanted = theirs(input_ids=ids, labels=labels, attention_mask=mask.long(), use_cache=False).loss
    wanted.backward()

    gradients = Gradients(list(run.model.parameters()), in_place=in_place)
    work = RowWork.of(run.model.eval(), run.compute, gradients)
    loss = accumulate_gradients(run.samples, documents, run.compute, work)
    assert loss.sum() == pytest.approx(wanted.item(), rel=1e-6)
    for (name, ours), parameter in zip(run.model.named_parameters(), theirs.parameters(), strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(
            ours.grad[: len(parameter)], parameter.grad, atol=1e-6, rtol=1e-4, msg=f"{name}: {{}}".format
        )


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "share"), [("float32", 0.0), ("bfloat16", 0.0), ("float32", 0.5)])
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path, precision: str, share: float) -> None:
    whole = new_run(tmp_path / "whole", precision=precision, rehearsal_share=share)
    uninterrupted = list(train(whole))
    interrupted = new_run(tmp_path / "cut", precision=precision, rehearsal_share=share)
    message = r"Training stopped at step 6 of \d+ \(SIGTERM received\); run the same"
    with pytest.raises(TrainingInterruptedError, match=message):
        terminate_at(train(interrupted), step=5)
    resumed = new_run(tmp_path / "cut", precision=precision, rehearsal_share=share)
    resumed_records = list(train(resumed))
    assert_equal_to_the_bit(weights(whole), weights(resumed))
    assert [without_time(r) for r in resumed_records] == [without_time(r) for r in uninterrupted]


@pytest.mark.slow
def test_a_killed_run_continues_from_its_last_state(tmp_path: Path) -> None:
    """After a kill in step 8 the state of step 6 is there, and the final weights are the same."""
    whole = new_run(tmp_path / "whole")
    list(train(whole))
    for record in train(new_run(tmp_path / "cut")):
        if record["step"] == 8:
            break
    resumed = new_run(tmp_path / "cut")
    list(train(resumed))
    assert_equal_to_the_bit(weights(whole), weights(resumed))


@pytest.mark.slow
def test_rehearsal_is_trained_on_and_counted(tmp_path: Path) -> None:
    plain, rehearsing = (new_run(tmp_path / str(share), rehearsal_share=share) for share in (0.0, 0.5))
    figures = [report(list(train(run)), run.settings, 1.0) for run in (plain, rehearsing)]
    assert any(not torch.equal(one, weights(rehearsing)[name]) for name, one in weights(plain).items())
    tokens = int(plain.samples.lengths[: plain.samples.split_size].sum())
    assert (figures[0]["tokens"], figures[0]["rehearsal_tokens"]) == (tokens, 0)
    extra = figures[1]["rehearsal_tokens"]
    assert abs(extra - 0.5 * tokens) < plain.samples.lengths.max()
    assert figures[1]["tokens"] == tokens + extra
    assert figures[1]["steps"] == pytest.approx(1.5 * figures[0]["steps"], abs=2)
    assert tokens_of_run(rehearsing.samples, 0.5) == pytest.approx(tokens + extra, abs=40)


def test_two_runs_are_equal_to_the_bit(tmp_path: Path) -> None:
    runs = [new_run(tmp_path / name) for name in "ab"]
    for each in runs:
        list(train(each))
    assert_equal_to_the_bit(weights(runs[0]), weights(runs[1]))


@pytest.mark.slow
def test_it_learns_to_answer_and_to_stop(tmp_path: Path) -> None:
    run = new_run(tmp_path, epochs=40, dropout=0.0)
    easy = make_store(tmp_path / "easy.arrow", 40, seed=0, longest_opening=1)
    run = replace(run, samples=Samples(easy, epochs=40, seed=0), validation=easy)
    records = list(train(run))
    assert min(r["loss"] for r in records if r["kind"] == "validation") < 0.5
    ids = torch.tensor([[57, 3, 58]])
    for _ in range(4):
        ids = torch.cat([ids, run.model(ids).logits[:, -1:, :VOCABULARY_SIZE].argmax(-1)], dim=1)
    assert ids[0, 3:].tolist() == [3, 3, 3, END]


@pytest.mark.slow
def test_without_validation_the_steps_are_the_same(tmp_path: Path) -> None:
    validated, alone = new_run(tmp_path / "a"), replace(new_run(tmp_path / "b"), validation=None)
    kinds = [{record["kind"] for record in train(run)} for run in (validated, alone)]
    assert kinds == [{"step", "validation"}, {"step"}]
    assert_equal_to_the_bit(weights(validated), weights(alone))


def test_best_keeps_the_lowest_validation_loss(tmp_path: Path) -> None:
    run = new_run(tmp_path, keep="best", learning_rate=0.3, epochs=4, early_stopping_patience=3)
    validations = [record for record in train(run) if record["kind"] == "validation"]
    best = min(validations, key=lambda record: record["loss"])
    assert run.validation
    with torch.no_grad():
        nats = sum(
            float(run.compute.nats(run.model, row)[0])
            for row in run.compute.rows(run.validation, range(len(run.validation)))
        )
    assert nats / run.validation.learned_counts.sum() == pytest.approx(best["loss"], rel=1e-6)


def test_early_stopping_waits_for_its_patience(tmp_path: Path) -> None:
    run = new_run(tmp_path, learning_rate=1.0, epochs=50, early_stopping_patience=2, max_gradient_norm=100.0)
    records = list(train(run))
    validations = [record["loss"] for record in records if record["kind"] == "validation"]
    assert records[-1]["step"] < records[0]["steps"]
    assert min(validations[-2:]) >= min(validations[:-2])


def test_a_loss_that_is_not_finite_stops_with_the_last_good_weights(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with torch.no_grad():
        run.model.transformer.ln_f.weight.fill_(torch.inf)
    with pytest.raises(TrainingError, match=r"At step 1 the loss is nan .*numbers#\d+.*last_good.*learning_rate"):
        list(train(run))
    assert (tmp_path / "resume" / "last_good" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["train.tokens_per_step", "machine.tokens_per_microbatch"])
def test_a_document_that_does_not_fit_is_one_clear_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name} is 20, but the longest document has \d+ tokens; raise it"):
        list(train(new_run(tmp_path, **{name.split(".")[1]: 20})))


@pytest.mark.parametrize("content", [b"", b"half a file", b"\x80garbage"])
def test_a_state_that_cannot_be_read_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    run = new_run(tmp_path)
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / f"state.{sha256(content).hexdigest()[:16]}.pt").write_bytes(content)
    with pytest.raises(TrainingError, match=r"state\.\w+\.pt cannot be resumed \(.+\); delete .*resume to start again"):
        list(train(run))


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk; the weights take 60 kB."""
    run = new_run(tmp_path)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(
            StorageError, match=r"/(best\.safetensors|state\.pt) cannot be written \(.+\); make room on the disk"
        ):
            list(train(run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_validation_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    """Only the validation document is long enough to reach the positions that are broken."""
    write(tmp_path / "long.arrow", [Document([1] * 60, [True] * 60, "numbers", "long#1", 60)])
    run = replace(new_run(tmp_path), validation=Store(tmp_path / "long.arrow"))
    with torch.no_grad():
        run.model.transformer.wpe.weight[50:] = torch.nan
    with pytest.raises(TrainingError, match=r"After step \d+ the validation loss is nan; the weights are kept"):
        list(train(run))


def test_only_matrices_decay(run: Run) -> None:
    decayed, plain = adamw(
        run.model, learning_rate=1.0, weight_decay=0.1, betas=(0.9, 0.95), moment_bits=None, seed=0
    ).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in decayed["params"]} == {2}
    assert {p.dim() for p in plain["params"]} == {1}

"""Each training option does what it promises, resumes to the bit after an interruption, and leaves a plain GPT-2."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2LMHeadModel

from stages.fetch import fetch
from tests.support.runs import (
    VOCABULARY_SIZE,
    assert_equal_to_the_bit,
    new_run,
    settings_with,
    terminate_at,
    weights,
    without_time,
)
from theta.errors import SettingsError, TrainingInterruptedError
from theta.memory.plans import PLANS, Size, peak_bytes
from theta.model import network
from theta.model.attention import Packing
from theta.model.forward import Passes, draws, hidden_states
from theta.model.trainable import freeze, to_plain_gpt2
from theta.optim.adamw import adamw, apply, begin
from theta.optim.ema import EMA
from theta.settings import read
from theta.tokens.store import IGNORED
from theta.tokens.vocabulary import SPECIAL_TOKENS_ADDED
from theta.train.batches import steps_of
from theta.train.choose import choose_placement
from theta.train.loop import train
from theta.train.run import Run
from theta.train.settings import check_options

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = slice(VOCABULARY_SIZE - SPECIAL_TOKENS_ADDED, VOCABULARY_SIZE)
ADAPTED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")

OPTIONS = [
    pytest.param({"label_smoothing": 0.1, "layer_learning_rate_decay": 0.5}, id="smoothing-layers"),
    pytest.param({"ema_decay": 0.9, "keep": "last"}, id="ema-last"),
    pytest.param({"ema_decay": 0.9, "keep": "best"}, id="ema-best"),
    pytest.param({"frozen_layers": 1, "dropout": "base"}, id="frozen"),
    pytest.param({"lora_rank": 2, "ema_decay": 0.9, "frozen_layers": 1, "keep": "best"}, id="lora"),
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", OPTIONS)
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = new_run(tmp_path / "whole", **changes)
    uninterrupted = list(train(whole))
    with pytest.raises(TrainingInterruptedError):
        terminate_at(train(new_run(tmp_path / "cut", **changes)), step=5)
    resumed = new_run(tmp_path / "cut", **changes)
    assert [without_time(r) for r in train(resumed)] == [without_time(r) for r in uninterrupted]
    assert_equal_to_the_bit(weights(whole), weights(resumed))


@pytest.mark.slow
@pytest.mark.parametrize("changes", OPTIONS)
def test_the_kept_weights_are_a_plain_gpt2_with_the_reported_loss(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = new_run(tmp_path, **changes)
    validations = [record["loss"] for record in train(run) if record["kind"] == "validation"]
    network.trim(run.model, VOCABULARY_SIZE)
    network.save(run.model, tmp_path / "checkpoint")
    kept = GPT2LMHeadModel.from_pretrained(tmp_path / "checkpoint")
    assert kept.state_dict().keys() == network.new(2, 2, 32, seed=0).state_dict().keys()
    assert run.validation
    rows = run.compute.rows(run.validation, range(len(run.validation)))
    with torch.no_grad():
        nats = sum(float(run.compute.nats(kept.eval(), row)[0]) for row in rows)
    reported = min(validations) if run.settings.keep == "best" else validations[-1]
    assert nats / run.validation.learned_counts.sum() == pytest.approx(reported, rel=1e-5)


def test_label_smoothing_is_that_of_torch_and_not_in_validation(tmp_path: Path) -> None:
    run = new_run(tmp_path, label_smoothing=0.2, dropout=0.0, epochs=1, learning_rate=1e-12)
    plain = new_run(tmp_path / "plain", dropout=0.0, epochs=1, learning_rate=1e-12)
    steps = steps_of(run.samples.epochs, run.samples.lengths, tokens_per_step=128, seed=0)
    nats, learned = torch.zeros(()), 0
    for document in steps[0]:
        ids, labels = (torch.from_numpy(part.copy()).long() for part in run.samples[document])
        with torch.no_grad():
            logits = run.model.eval()(ids[None]).logits[0, :-1, :VOCABULARY_SIZE]
        nats += cross_entropy(logits, labels[1:], ignore_index=IGNORED, reduction="sum", label_smoothing=0.2)
        learned += int((labels[1:] != IGNORED).sum())
    records, unsmoothed = list(train(run)), list(train(plain))
    assert records[0]["loss"] == pytest.approx(float(nats) / learned, rel=1e-5)
    assert records[0]["loss"] != pytest.approx(unsmoothed[0]["loss"], rel=1e-4)
    assert records[-1]["kind"] == "validation"
    assert records[-1]["loss"] == pytest.approx(unsmoothed[-1]["loss"], rel=1e-6)


@pytest.mark.slow
def test_the_ema_is_kept_and_training_continues_with_the_weights(tmp_path: Path) -> None:
    run = new_run(tmp_path, ema_decay=0.8, steps_per_checkpoint=1)
    plain = new_run(tmp_path / "plain", steps_per_checkpoint=1)
    average, losses = weights(plain), []
    for record in train(plain):
        if record["kind"] == "step":
            losses.append(record["loss"])
            decay = min(0.8, (1 + record["step"]) / (10 + record["step"]))
            for name, tensor in plain.model.state_dict().items():
                average[name].lerp_(tensor, 1 - decay)
    assert [record["loss"] for record in train(run) if record["kind"] == "step"] == losses
    assert_equal_to_the_bit(weights(run), average)
    assert not torch.equal(run.model.lm_head.weight, plain.model.lm_head.weight)


def test_the_ema_is_in_float32_and_replaces_the_weights_for_a_while() -> None:
    model = torch.nn.Linear(4, 4).bfloat16()
    before, address = model.weight.detach().clone(), model.weight.data_ptr()
    ema = EMA(model, 0.5)
    with torch.no_grad():
        model.weight += 1
    ema.update(steps=1000)
    assert torch.equal(ema.tensors["weight"], torch.lerp(before.float(), model.weight.detach().float(), 0.5))
    after = model.weight.detach().clone()
    with ema.in_place():
        assert torch.equal(model.weight, ema.tensors["weight"].bfloat16())
    assert torch.equal(model.weight, after)
    assert model.weight.data_ptr() == address, "recorded steps read it there"


def test_each_layer_learns_at_its_fraction_of_the_rate(tmp_path: Path) -> None:
    """The first step of AdamW is as long as the learning rate, whatever the gradient."""
    model = new_run(tmp_path).model
    optimizer = adamw(
        model, learning_rate=1.0, weight_decay=0.0, betas=(0.9, 0.99), moment_bits=None, seed=0, layer_decay=0.5
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    begin(optimizer, 0.01)
    apply(optimizer, torch.ones(()))
    for name, parameter in model.named_parameters():
        share = 0.25 if ".wte" in name or ".wpe" in name else 0.5 if ".h.0." in name else 1.0
        torch.testing.assert_close(before[name] - parameter, torch.full_like(parameter, 0.01 * share))


def test_frozen_layers_stay_and_special_tokens_are_learned(tmp_path: Path) -> None:
    run = new_run(tmp_path, frozen_layers=1)
    before = weights(run)
    list(train(run))
    changed = changes_of(run, before)
    learned = {"transformer.wte.weight", "lm_head.weight"}
    learned |= {name for name in before if name.startswith(("transformer.h.1.", "transformer.ln_f."))}
    assert set(changed) == learned
    assert_only_special_rows(changed["transformer.wte.weight"])
    assert run.model.lm_head.weight is run.model.transformer.wte.weight
    assert all(parameter.requires_grad for parameter in run.model.parameters())


def test_special_rows_get_the_gradient_that_they_get_in_the_complete_matrix(tmp_path: Path) -> None:
    run = new_run(tmp_path, frozen_layers=2)
    row = next(run.compute.rows(run.samples, [0, 1, 2]))
    whole, _ = run.compute.nats(run.model.eval(), row)
    whole.backward()
    wanted = run.model.transformer.wte.weight.grad[SPECIAL].clone()
    run.model.zero_grad()
    freeze_as_set(run.model, run)
    part, _ = run.compute.nats(run.model, row)
    part.backward()
    assert torch.equal(part, whole)
    torch.testing.assert_close(run.model.transformer.wte.learned.grad, wanted, atol=1e-6, rtol=1e-5)
    got = {name for name, parameter in run.model.named_parameters() if parameter.grad is not None}
    assert got == {"transformer.wte.learned", "transformer.ln_f.weight", "transformer.ln_f.bias"}


def test_adapters_learn_beside_the_base_and_are_added_to_it(tmp_path: Path) -> None:
    run = new_run(tmp_path, lora_rank=2, learning_rate=0.05)
    before = weights(run)
    losses = [record["loss"] for record in train(run) if record["kind"] == "validation"]
    assert losses[-1] < losses[0]
    changed = changes_of(run, before)
    adapted = {f"transformer.h.{block}.{name}" for block in (0, 1) for name in ADAPTED}
    assert set(changed) == adapted | {"transformer.wte.weight", "lm_head.weight"}
    assert_only_special_rows(changed["transformer.wte.weight"])
    for name in adapted:
        # Up to the rounding of the float32 weights to which the product was added.
        assert torch.linalg.matrix_rank(changed[name], atol=1e-5) == 2, name


def test_merged_equals_unmerged(tmp_path: Path) -> None:
    run = new_run(tmp_path, lora_rank=3)
    model = run.model.eval()
    ids, packing = torch.arange(60)[None], Packing.of([25, 35], model.device)
    base = hidden_states(model, ids, packing)
    freeze_as_set(model, run)
    assert torch.equal(hidden_states(model, ids, packing), base), "adapters begin at nothing"
    trained = [parameter for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == 2 * 3 * (32 + 96 + 32 + 32 + 32 + 128 + 128 + 32) + 5 * 32
    for parameter in trained:
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(0))
    unmerged = hidden_states(model, ids, packing)
    assert (unmerged - base).abs().mean() > 0.1
    to_plain_gpt2(model)
    torch.testing.assert_close(hidden_states(model, ids, packing), unmerged, atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_adapters(tmp_path: Path) -> None:
    drawn = []
    for seed in (1, 1, 2):
        run = new_run(tmp_path, lora_rank=2, seed=seed)
        freeze_as_set(run.model, run)
        drawn.append(run.model.transformer.h[0].attn.c_attn.lora_A["default"].weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_dropout_of_the_base_is_drawn_again_for_recompute() -> None:
    model = network.new(2, 2, 32, seed=0, vocabulary_size=60)
    model.transformer.drop.p = 0.0  # a base without dropout of embeddings, but of branches
    network.set_dropout(model, "base")
    assert (model.transformer.drop.p, model.transformer.h[1].mlp.dropout.p) == (0.0, 0.1)
    gradients = []
    for passes in (Passes(), Passes(recompute=True)):
        torch.manual_seed(0)
        model.zero_grad()
        hidden_states(
            model.train(), torch.arange(60)[None], Packing.of([60], model.device), passes
        ).square().sum().backward()
        gradients.append(model.transformer.wpe.weight.grad.clone())
    assert torch.equal(*gradients)
    network.set_dropout(model, 0.0)
    assert not draws(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frozen_layers": 3}, r"train\.frozen_layers is 3 but must be from 0 to 2: the base has 2 layers; lower it"),
        (
            {"frozen_layers": 2, "lora_rank": 1},
            r"is 2 but must be from 0 to 1: .*, and train\.lora_rank needs one",
        ),
    ],
)
def test_more_frozen_layers_than_there_are_is_one_clear_line(
    tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    run = new_run(tmp_path, **changes)
    check_options(run.settings.model_copy(update={"frozen_layers": 1}), layers=2)
    with pytest.raises(SettingsError, match=message):
        list(train(run))


def test_fetch_finds_that_fault_before_anything_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = read(ROOT / "params.yaml")
    values["model"]["base"] = "scratch:nano"  # the base has two layers
    values["train"]["frozen_layers"] = 3
    values["data"]["path"] = str(ROOT / "Datasets" / "conversations")
    (tmp_path / "params.yaml").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"train\.frozen_layers is 3"):
        fetch()
    assert not (tmp_path / "models").exists()


def test_adapters_without_peft_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SettingsError, match=r"train\.lora_rank is 2, .*; run `pip install -e '\.\[lora\]'`, or set it"):
        list(train(new_run(tmp_path, lora_rank=2)))


def test_a_plan_leaves_room_for_the_ema() -> None:
    size, tokens = Size(layers=12, width=768, columns=50304, positions=1024), 1024
    budget = peak_bytes(size, PLANS[0], tokens)  # the fastest plan just fits
    chosen = []
    for decay in (0.0, 0.999):
        settings, machine = settings_with(tokens_per_step=tokens, tokens_per_microbatch=tokens, ema_decay=decay)
        placement = choose_placement(settings, machine, size, torch.device("cuda"), torch.bfloat16, 512, budget)
        chosen.append(placement.plan.name)
    assert chosen[0] == "fast"
    assert chosen[1] != "fast"


def freeze_as_set(model: GPT2LMHeadModel, run: Run) -> None:
    """Freeze the weights that the settings of the run do not train."""
    settings = run.settings
    freeze(
        model,
        frozen_layers=settings.frozen_layers,
        lora_rank=settings.lora_rank,
        vocabulary_size=VOCABULARY_SIZE,
        seed=settings.seed,
    )


def changes_of(run: Run, before: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the difference of each weight that has changed."""
    after = weights(run)
    assert after.keys() == before.keys()
    return {name: after[name] - tensor for name, tensor in before.items() if not torch.equal(after[name], tensor)}


def assert_only_special_rows(change: Tensor) -> None:
    """Of an embedding."""
    assert change[SPECIAL].any(dim=1).all()
    assert not change[: SPECIAL.start].any()
    assert not change[SPECIAL.stop :].any()

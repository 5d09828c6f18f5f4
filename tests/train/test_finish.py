"""The end of training: small changes survive it, and the reported loss is that of the saved weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.runs import VOCABULARY_SIZE, new_run, weights
from theta.memory.plans import PLANS
from theta.model import network
from theta.model.trainable import freeze
from theta.optim.ema import EMA
from theta.train.finish import finish, keep, kept_tensors
from theta.train.loop import train
from theta.train.run import Run

BFLOAT16 = next(plan for plan in PLANS if plan.weights == "bfloat16")


def run_in_bfloat16(folder: Path, **changes: Any) -> Run:
    """A run whose model is in bfloat16, as the plans of GPUs have it."""
    run = new_run(folder, **changes)
    run.model.to(torch.bfloat16)
    return replace(run, compute=replace(run.compute, plan=BFLOAT16))


def mean_step(one: Tensor, two: Tensor) -> float:
    return (one.float() - two.float()).abs().mean().item()


def test_a_share_of_the_base_is_mixed_in_when_weights_differ_by_half_a_percent(tmp_path: Path) -> None:
    """In bfloat16, whose steps are about as large, 85 % of the weights would not change at all."""
    run = run_in_bfloat16(tmp_path, base_share=0.15)
    base = network.new(2, 2, 32, seed=0, vocabulary_size=VOCABULARY_SIZE)
    with torch.no_grad():
        for name, weight in base.named_parameters():
            own = dict(run.model.named_parameters())[name][: len(weight)].float()
            weight.copy_(own * 1.005)
    trained = weights(run)
    keep(run, dict(kept_tensors(run.model, {})))
    finish(run, lambda: base)
    for name, weight in base.named_parameters():
        if name.endswith(".weight") and "ln_" not in name:
            before = trained[name][: len(weight)]
            wanted = before.float() + 0.15 * (weight - before.float())
            torch.testing.assert_close(run.model.state_dict()[name][: len(weight)], wanted, atol=1e-7, rtol=1e-6)
            moved = run.model.state_dict()[name][: len(weight)] != before
            assert moved.float().mean() > 0.99, name
            assert mean_step(wanted, before) > 0


def test_the_ema_is_kept_in_float32(tmp_path: Path) -> None:
    run = run_in_bfloat16(tmp_path)
    ema = EMA(run.model, 0.999)
    with torch.no_grad():
        for weight in run.model.parameters():
            weight.mul_(1.01)
    ema.update(10_000)
    keep(run, dict(kept_tensors(run.model, ema.tensors)))
    kept = dict(run.model.named_parameters())
    assert all(torch.equal(kept[name], average) for name, average in ema.tensors.items())
    assert not torch.equal(kept["transformer.wpe.weight"].bfloat16().float(), kept["transformer.wpe.weight"])


@pytest.mark.parametrize("changes", [{"frozen_layers": 1}, {"lora_rank": 2}])
def test_the_ema_of_the_special_tokens_is_kept(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Their rows are learned apart from the embedding, whose memory they share on a CPU."""
    run = new_run(tmp_path, **changes)
    settings = run.settings
    freeze(
        run.model,
        frozen_layers=settings.frozen_layers,
        lora_rank=settings.lora_rank,
        vocabulary_size=VOCABULARY_SIZE,
        seed=0,
    )
    ema = EMA(run.model, 0.9)
    with torch.no_grad():
        run.model.transformer.wte.learned.add_(1)
    ema.update(10_000)
    average = ema.tensors["transformer.wte.learned"].clone()
    keep(run, dict(kept_tensors(run.model, ema.tensors)))
    assert torch.equal(run.model.transformer.wte.weight[VOCABULARY_SIZE - 5 : VOCABULARY_SIZE], average)


def test_adapters_are_merged_in_float32(tmp_path: Path) -> None:
    run = run_in_bfloat16(tmp_path, lora_rank=2)
    before = weights(run)["transformer.h.0.attn.c_attn.weight"].float()
    freeze(run.model, frozen_layers=0, lora_rank=2, vocabulary_size=VOCABULARY_SIZE, seed=0)
    layer = run.model.transformer.h[0].attn.c_attn
    with torch.no_grad():
        layer.lora_B["default"].weight.fill_(1e-5)
    product = 2 * (layer.lora_B["default"].weight.float() @ layer.lora_A["default"].weight.float()).T
    keep(run, dict(kept_tensors(run.model, {})))
    after = run.model.transformer.h[0].attn.c_attn.weight
    torch.testing.assert_close(after - before, product, atol=1e-7, rtol=1e-2)
    assert (after != before).float().mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"keep": "best"}, {"ema_decay": 0.9}, {"lora_rank": 2}])
def test_the_reported_loss_is_that_of_the_saved_weights(tmp_path: Path, changes: dict[str, Any]) -> None:
    base = network.new(2, 2, 32, seed=0, vocabulary_size=VOCABULARY_SIZE)
    run = new_run(tmp_path, base_share=0.5, **changes)
    trained = [record["loss"] for record in train(run) if record["kind"] == "validation"]
    loss = finish(run, lambda: base)
    assert run.validation
    with torch.no_grad():
        nats = sum(
            float(run.compute.nats(run.model, row)[0])
            for row in run.compute.rows(run.validation, range(len(run.validation)))
        )
    assert loss == pytest.approx(nats / run.validation.learned_counts.sum(), rel=1e-6)
    assert loss != pytest.approx(trained[-1], rel=1e-3), "half of the base is in it"

"""The same guarantees on a CUDA GPU, where Theta's kernels run and steps are recorded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from tests.support.runs import settings_with
from theta.model import network
from theta.model.loss import Loss
from theta.model.rows import Row, predicting_states, row_nats
from theta.tokens.store import Document, Store, write
from theta.train.choose import choose_compute
from theta.train.loop import train
from theta.train.run import Run
from theta.train.samples import Samples

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

VOCABULARY_SIZE = 1000
LENGTHS = (17, 1, 140, 2, 29, 64, 300)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path, repeats=4)


def new_store(tmp_path: Path, repeats: int) -> Store:
    generator = torch.Generator().manual_seed(0)
    documents = []
    for i, length in enumerate(LENGTHS * repeats):
        ids = torch.randint(VOCABULARY_SIZE, (length,), generator=generator).tolist()
        documents.append(Document(ids, [k >= length // 2 for k in range(length)], "d", f"x#{i}", length))
    write(tmp_path / "train.arrow", documents)
    return Store(tmp_path / "train.arrow")


def new_model() -> GPT2LMHeadModel:
    model = network.new(2, 4, 256, seed=0, vocabulary_size=VOCABULARY_SIZE)
    network.resize(model, VOCABULARY_SIZE)
    model.eval()
    return model


def new_run(store: Store, resume: Path, **changes: Any) -> Run:
    usual = {
        "epochs": 3,
        "tokens_per_step": 1024,
        "tokens_per_microbatch": 512,
        "learning_rate": 1e-3,
        "device": "cuda",
    }
    settings, machine = settings_with(**{**usual, "steps_per_checkpoint": 2, "precision": "auto", **changes})
    model = new_model()
    samples = Samples(store, epochs=settings.epochs, seed=settings.seed)
    compute = choose_compute(settings, machine, model, VOCABULARY_SIZE, samples, store)
    return Run(model, samples, store, settings, compute, resume, machine.steps_per_checkpoint, None)


def losses(run: Run) -> list[float]:
    return [record["loss"] for record in train(run)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_packed_equals_one_document_at_a_time(store: Store, dtype: torch.dtype, tolerance: float) -> None:
    """bfloat16 keeps 8 bits, so states of size 1 agree to a few hundredths."""
    model = new_model().cuda()
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32), torch.no_grad():
        packed = predicting_states(model, Row.of(store, range(7), model.device))
        alone = [predicting_states(model, Row.of(store, [i], model.device)) for i in range(7)]
    torch.testing.assert_close(packed, torch.cat(alone), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gpu_agrees_with_cpu(store: Store, dtype: torch.dtype) -> None:
    """Loss and gradients in half precision on the GPU against float32 on the CPU."""
    model = new_model()
    reference, _ = row_nats(model, Row.of(store, range(7), model.device), Loss(VOCABULARY_SIZE))
    reference.backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    on_gpu = new_model().cuda()
    with torch.autocast("cuda", dtype):
        nats, _ = row_nats(on_gpu, Row.of(store, range(7), on_gpu.device), Loss(VOCABULARY_SIZE))
    nats.backward()
    assert nats.item() == pytest.approx(reference.item(), rel=1e-3)
    for name, parameter in on_gpu.named_parameters():
        exact = wanted[name]
        assert parameter.grad is not None
        assert exact is not None
        difference = (parameter.grad.cpu() - exact).norm() / exact.norm()
        assert difference < 0.03, name


PLANS = [
    pytest.param({"memory": "fast", "dropout": 0.1}, id="fast"),
    pytest.param({"memory": "compact"}, id="compact"),
    pytest.param({"memory": "lean", "dropout": 0.1}, id="lean"),
    pytest.param({"memory": "leanest", "tokens_per_microbatch": 1024}, id="leanest"),
    pytest.param({"memory": "float32"}, id="float32"),
    pytest.param({"memory": "fast", "compile": "always"}, id="compiled"),
]


OPTIONS = [
    pytest.param({"memory": "fast", "ema_decay": 0.9, "label_smoothing": 0.1, "keep": "best"}, id="ema"),
    pytest.param({"memory": "compact", "layer_learning_rate_decay": 0.8, "frozen_layers": 1}, id="frozen"),
    pytest.param({"memory": "lean", "lora_rank": 4, "dropout": "base", "ema_decay": 0.9}, id="lora"),
    pytest.param({"memory": "leanest", "lora_rank": 4, "tokens_per_microbatch": 1024}, id="lora-leanest"),
    pytest.param({"memory": "fast", "lora_rank": 4, "frozen_layers": 1, "compile": "always"}, id="lora-compiled"),
]


@pytest.mark.parametrize("changes", [*PLANS, *OPTIONS])
def test_resumed_equals_uninterrupted_to_the_bit(store: Store, tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = new_run(store, tmp_path / "whole", **changes)
    expected = losses(whole)
    for record in train(new_run(store, tmp_path / "cut", **changes)):
        if record["step"] == 5:
            break
    cut = new_run(store, tmp_path / "cut", **changes)
    assert losses(cut) == expected
    for (name, one), two in zip(whole.model.named_parameters(), cut.model.parameters(), strict=True):
        assert torch.equal(one, two), name


@pytest.mark.parametrize("changes", [*PLANS, pytest.param({"precision": "float16", "memory": "float32"}, id="float16")])
def test_every_plan_learns_like_float32(store: Store, tmp_path: Path, changes: dict[str, Any]) -> None:
    exact = losses(new_run(store, tmp_path / "exact", precision="float32", memory="float32", dropout=0.0))
    ours = losses(new_run(store, tmp_path / "ours", **{**changes, "dropout": 0.0}))
    assert ours == pytest.approx(exact, rel=0.01)


def test_microbatches_that_do_not_fit_are_halved(tmp_path: Path) -> None:
    store = new_store(tmp_path, repeats=16)
    whole = {"tokens_per_step": 8192, "tokens_per_microbatch": 8192, "dropout": 0.0, "compile": "never"}
    expected = losses(new_run(store, tmp_path / "one", **whole))
    run = new_run(store, tmp_path / "two", **whole)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 190 * 2**20) / total)
    try:
        records = list(train(run))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_stats()["num_ooms"] > 0
    assert [record["loss"] for record in records] == pytest.approx(expected, rel=0.01)

"""The same guarantees on a CUDA GPU, where the flash kernel for packed rows takes over."""

import os
from pathlib import Path

import pytest
import torch
from test_train import SETTINGS

from theta.model import network
from theta.model.attention import use_packed_attention
from theta.model.devices import choose_device, choose_dtype
from theta.model.rows import Row, predicting_states, row_nats
from theta.tokens.store import Document, Store, write
from theta.train.loop import Compute, Run, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

VOCABULARY_SIZE = 1000
LENGTHS = (17, 1, 140, 2, 29, 64, 300)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    generator = torch.Generator().manual_seed(0)
    documents = []
    for i, length in enumerate(LENGTHS * 4):
        ids = torch.randint(VOCABULARY_SIZE, (length,), generator=generator).tolist()
        documents.append(Document(ids, [k >= length // 2 for k in range(length)], "d", f"x#{i}", length))
    write(tmp_path / "train.arrow", documents)
    return Store(tmp_path / "train.arrow")


def new_model() -> torch.nn.Module:
    model = network.new(2, 4, 256, seed=0, vocabulary_size=VOCABULARY_SIZE)
    network.resize(model, VOCABULARY_SIZE)
    use_packed_attention(model)
    return model.eval()


def new_run(store: Store, resume: Path, precision: str = "auto") -> Run:
    device = choose_device("train.device", "cuda")
    changes = {"epochs": 2, "tokens_per_step": 1024, "tokens_per_microbatch": 512, "learning_rate": 1e-3}
    settings = SETTINGS.model_copy(update={**changes, "steps_per_checkpoint": 2, "precision": precision})
    return Run(
        new_model(),
        store,
        store,
        settings,
        Compute(device, choose_dtype(precision, device), VOCABULARY_SIZE, settings.tokens_per_microbatch),
        resume,
        os.getppid(),
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_packed_equals_one_document_at_a_time(store: Store, dtype: torch.dtype, tolerance: float) -> None:
    """bfloat16 keeps 8 bits, so states of size 1 agree to a few hundredths; float32 takes the other kernel."""
    model = new_model().cuda()
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32), torch.no_grad():
        packed = predicting_states(model, Row.of(store, range(7), model.device))
        alone = [predicting_states(model, Row.of(store, [i], model.device)) for i in range(7)]
    torch.testing.assert_close(packed, torch.cat(alone), atol=tolerance, rtol=tolerance)


def test_gpu_agrees_with_cpu(store: Store) -> None:
    """Loss and gradients in bfloat16 on the GPU against float32 on the CPU."""
    model = new_model()
    reference = row_nats(model, Row.of(store, range(7), model.device), VOCABULARY_SIZE)
    reference.backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    on_gpu = new_model().cuda()
    with torch.autocast("cuda", torch.bfloat16):
        nats = row_nats(on_gpu, Row.of(store, range(7), on_gpu.device), VOCABULARY_SIZE)
    nats.backward()
    assert nats.item() == pytest.approx(reference.item(), rel=1e-3)
    for name, parameter in on_gpu.named_parameters():
        difference = (parameter.grad.cpu() - wanted[name]).norm() / wanted[name].norm()
        assert difference < 0.03, name


def test_an_interrupted_run_goes_on(store: Store, tmp_path: Path) -> None:
    """Kernels that add in any order make two GPU runs differ in the last digits, so the losses are compared."""
    whole = [r["loss"] for r in train(new_run(store, tmp_path / "whole"))]
    for record in train(new_run(store, tmp_path / "cut")):
        if record["step"] == 3:
            break
    resumed = [r["loss"] for r in train(new_run(store, tmp_path / "cut"))]
    assert resumed == pytest.approx(whole, rel=2e-3)

"""The gate before replies with weights in 8 bits."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import kl_div
from transformers import GPT2LMHeadModel

from theta import ThetaModel
from theta.bases.weight_files import plain_name
from theta.conversation.messages import Message
from theta.conversation.template import render
from theta.errors import GenerationError
from theta.generate import int8_gate, weights, writers
from theta.generate.cpu_products import is_available
from theta.generate.int8_gate import Difference
from theta.generate.shape import Shape
from theta.tokens.vocabulary import Vocabulary

pytestmark = pytest.mark.skipif(not is_available(), reason="needs FBGEMM")


def arranged(model: GPT2LMHeadModel) -> tuple[weights.Weights, Shape]:
    tensors = {plain_name(name): each for name, each in model.state_dict().items()}
    shape = Shape.of(model.config.to_dict())
    return weights.arrange(tensors, shape, torch.device("cpu"), torch.float32, as_stored=True), shape


def test_the_difference_is_that_of_transformers(tiny_folder: Path, vocabulary: Vocabulary) -> None:
    reference = GPT2LMHeadModel.from_pretrained(tiny_folder).eval()
    other = GPT2LMHeadModel.from_pretrained(tiny_folder).eval()
    with torch.no_grad():
        other.transformer.h[1].mlp.c_fc.weight[0] += 3
    nats, equal = [], []
    for question, answer in int8_gate.CONVERSATIONS:
        ids, learned = vocabulary.encode(list(render([Message("user", question), Message("assistant", answer)])))
        answered = torch.tensor(learned)[1:128]
        with torch.inference_mode():
            expected, found = (
                each(torch.tensor([ids[:128]])).logits[0, :-1][answered].log_softmax(-1) for each in (reference, other)
            )
        nats.append(kl_div(found, expected, reduction="none", log_target=True).sum(-1))
        equal.append(expected.argmax(-1) == found.argmax(-1))
    (ours, shape), (theirs, _) = arranged(reference), arranged(other)
    difference = int8_gate.difference(ours, theirs, shape, vocabulary)
    assert difference.nats == pytest.approx(float(torch.cat(nats).mean()), rel=1e-3)
    assert difference.nats > 1e-4
    assert difference.equal == pytest.approx(float(torch.cat(equal).float().mean()), abs=0.006)
    assert int8_gate.difference(ours, ours, shape, vocabulary) == Difference(0.0, 1.0)


@pytest.mark.parametrize(
    ("nats", "equal", "small"),
    [(0.01, 0.95, True), (0.0101, 1.0, False), (0.0, 0.949, False), (float("nan"), 1.0, False)],
)
def test_the_margins(nats: float, equal: float, small: bool) -> None:
    assert Difference(nats, equal).is_small is small


@pytest.fixture
def changed_folder(tiny_folder: Path, tmp_path: Path) -> Callable[[float], Path]:
    """Return a function for a folder whose weights of one channel are larger, and the values smaller, by a factor.

    In float32 the predictions are the same. In 8 bits the other weights, which share a scale with the large ones, lose.
    """

    def change(factor: float) -> Path:
        folder = Path(shutil.copytree(tiny_folder, tmp_path / "theta_final"))
        tensors = load_file(folder / "model.safetensors")
        for kind in ("weight", "bias"):
            tensors[f"transformer.h.0.ln_2.{kind}"][0] /= factor
        tensors["transformer.h.0.mlp.c_fc.weight"][0] *= factor
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return change


def test_a_model_that_loses_little_is_loaded(changed_folder: Callable[[float], Path]) -> None:
    folder = changed_folder(1)
    loaded = ThetaModel.load(folder, device="cpu", dtype="int8")
    assert loaded.dtype == "int8"
    reply = loaded.generate("Hi", max_length=20, seed=3)
    assert reply == ThetaModel.load(folder, device="cpu", dtype="int8").generate("Hi", max_length=20, seed=3)
    assert reply == loaded.generate(["Well?", "Hi", "What?"], max_length=20, seed=2)[1]


def test_a_model_that_loses_much_is_refused_with_what_it_loses(changed_folder: Callable[[float], Path]) -> None:
    message = (
        r"theta_final loses too much in int8: its predictions diverge from those in float32 by \d\.\d{4} nats a token "
        r"\(at most 0\.01 is allowed\), and \d+\.\d% of the likeliest tokens are the same \(at least 95%\); choose "
        r"dtype 'bfloat16', which rounds far less, or 'float32'\.$"
    )
    folder = changed_folder(1e5)
    with pytest.raises(GenerationError, match=message):
        ThetaModel.load(folder, device="cpu", dtype="int8")
    assert ThetaModel.load(folder, device="cpu", dtype="bfloat16").generate("Hi", max_length=4)


def test_machines_that_cannot_are_told(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GenerationError, match="'int8' is for CPUs, and the device is 'cuda'; choose another"):
        writers._dtype("int8", torch.device("cuda"))
    monkeypatch.setattr(int8_gate, "is_available", lambda: False)
    with pytest.raises(GenerationError, match="needs FBGEMM, which torch has on x86 processors alone; choose dtype"):
        ThetaModel.load(tiny_folder, device="cpu", dtype="int8")

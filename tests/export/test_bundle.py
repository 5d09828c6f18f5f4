import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

from theta.errors import ExportError, GenerationError
from theta.export import bundle
from theta.files import sha256
from theta.generate.assistant import ThetaModel
from theta.generate.settings import GenerationSettings
from theta.model import network
from theta.tokens.vocabulary import Vocabulary

pytestmark = pytest.mark.slow

PROMISED = (
    "config.json",
    "pytorch_model.bin",
    "tokenizer.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)


def test_the_folder_holds_the_named_files_only(save_bundle: Callable[..., Path]) -> None:
    names = {path.name for path in save_bundle().iterdir()}
    assert names == set(bundle.FILES)
    assert names > set(PROMISED)


def test_the_same_model_gives_the_same_bytes(save_bundle: Callable[..., Path]) -> None:
    first, second = save_bundle("one"), save_bundle("two")
    assert {name: sha256(first / name) for name in bundle.FILES} == {
        name: sha256(second / name) for name in bundle.FILES
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_weight_files_hold_the_same_tensors(save_bundle: Callable[..., Path], dtype: torch.dtype) -> None:
    folder = save_bundle(dtype=dtype)
    pickled = torch.load(folder / "pytorch_model.bin", weights_only=True)
    tensors = load_file(folder / "model.safetensors")
    assert pickled.keys() == tensors.keys()
    assert "lm_head.weight" not in pickled
    for name, tensor in tensors.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, pickled[name])
    # No tensor is a view of a larger storage: the file is as large as its tensors plus 20 kB of names.
    assert (folder / "pytorch_model.bin").stat().st_size < sum(each.nbytes for each in pickled.values()) + 20_000


def test_configs_name_the_ids_and_nothing_of_this_machine(
    save_bundle: Callable[..., Path], checkpoint_model: GPT2LMHeadModel, vocabulary: Vocabulary
) -> None:
    checkpoint_model.config.task_specific_params = {"text-generation": {"max_length": 50}}  # as gpt2 on the hub
    try:
        folder = save_bundle()
    finally:
        del checkpoint_model.config.task_specific_params
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    ids = {"bos_token_id": 50256, "eos_token_id": vocabulary.end_id, "pad_token_id": vocabulary.pad_id}
    assert ids.items() <= config.items()
    assert ids.items() <= generation.items()
    assert config["vocab_size"] == vocabulary.size
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["dtype"] == "float32"
    assert config["n_ctx"] == config["n_positions"] == 1024
    assert not {"_name_or_path", "_attn_implementation", "attn_implementation", "task_specific_params"} & config.keys()
    assert (generation["do_sample"], generation["max_new_tokens"], generation["top_k"]) == (True, 12, 50)
    for path in folder.glob("*.json"):
        assert str(folder.parent) not in path.read_text()


def test_all_files_have_the_same_mode(save_bundle: Callable[..., Path]) -> None:
    assert len({stat.S_IMODE(path.stat().st_mode) for path in save_bundle().iterdir()}) == 1


def test_theta_answers_from_the_folder(save_bundle: Callable[..., Path]) -> None:
    model = ThetaModel.load(save_bundle(), device="cpu")
    assert model.settings.max_length == 12
    assert isinstance(model.generate("Hi", seed=0), str)


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum")
def test_the_sums_are_those_of_sha256sum(save_bundle: Callable[..., Path]) -> None:
    folder = save_bundle()
    done = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(bundle.FILES) - 2
    (folder / "README.md").write_text("edited by a person")
    ThetaModel.load(folder, device="cpu", verify=True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda folder: flip(folder / "model.safetensors"),
            r"safetensors has the SHA-256 .*; run `dvc checkout`",
        ),
        (lambda folder: flip(folder / "tokenizer.json"), r"tokenizer\.json has the SHA-256"),
        (lambda folder: (folder / "merges.txt").unlink(), r"merges\.txt is missing, and SHA256SUMS lists it"),
        (lambda folder: (folder / "evil.py").touch(), r"evil\.py is not listed in SHA256SUMS: Theta did not export it"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), r"SHA256SUMS cannot be read \(FileNotFoundError\)"),
        (lambda folder: (folder / "SHA256SUMS").write_text("?"), r"SHA256SUMS cannot be read \(ValueError\)"),
    ],
)
def test_a_changed_file_is_found_when_asked_for(
    save_bundle: Callable[..., Path], damage: Callable[[Path], None], words: str
) -> None:
    folder = save_bundle()
    damage(folder)
    with pytest.raises(GenerationError, match=words):
        ThetaModel.load(folder, device="cpu", verify=True)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_tokenizer_of_another_run_is_refused(tmp_path: Path, vocabulary: Vocabulary) -> None:
    model = network.new(1, 1, 8, seed=0)
    with pytest.raises(ExportError, match="50257 embeddings and the tokenizer 50262 tokens"):
        bundle.write(tmp_path / "x", model, vocabulary, GenerationSettings(), dtype=torch.float32, card="")
    assert not (tmp_path / "x").exists()

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from theta.errors import ExportError
from theta.export.verification import verify
from theta.tokens.vocabulary import Vocabulary

Save = Callable[..., Path]


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def edit_weight(path: Path) -> None:
    """Change one number of one tensor slightly."""
    pickled = path.suffix == ".bin"
    tensors = torch.load(path, weights_only=True) if pickled else load_file(path)
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 5] += 1e-6
    torch.save(tensors, path) if pickled else save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_complete_folder_passes(
    save_bundle: Save, checkpoint_model: GPT2LMHeadModel, vocabulary: Vocabulary, dtype: torch.dtype
) -> None:
    difference = verify(save_bundle(dtype=dtype), checkpoint_model, vocabulary, dtype)
    assert (difference == 0) == (dtype == torch.float32)
    assert difference < 0.1


DAMAGES = {
    "a weight in safetensors": (lambda folder: edit_weight(folder / "model.safetensors"), "c_fc.weight in model.safe"),
    "a weight in the twin": (lambda folder: edit_weight(folder / "pytorch_model.bin"), "c_fc.weight in pytorch_model"),
    "half a safetensors": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000]),
        "cannot open the exported model.safetensors",
    ),
    "half a twin": (
        lambda folder: (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes()[:5000]),
        "cannot open the exported pytorch_model.bin",
    ),
    "a file less": (lambda folder: (folder / "merges.txt").unlink(), "lacks merges.txt"),
    "another activation": (
        lambda folder: edit_json(folder / "config.json", activation_function="relu"),
        "Logits of model.safetensors differ .* at most 1e-05 is allowed",
    ),
    "another end": (
        lambda folder: edit_json(folder / "config.json", eos_token_id=50256),
        "config.json has eos_token_id 50256, expected 50260",
    ),
    "another end of replies": (
        lambda folder: edit_json(folder / "generation_config.json", eos_token_id=50256),
        "generation_config.json has eos_token_id 50256, expected 50260",
    ),
    "a sampling parameter without sampling": (
        lambda folder: edit_json(folder / "generation_config.json", do_sample=False),
        "generation_config.json is not valid",
    ),
    "another number format": (
        lambda folder: edit_json(folder / "config.json", dtype="float16"),
        "opens as torch.float16",
    ),
    "another template": (
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}"),
        "chat template gives",
    ),
    "another padding": (
        lambda folder: edit_json(folder / "tokenizer_config.json", pad_token="<|endoftext|>"),
        "tokenizer has pad_token_id 50256, expected 50261",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_noticed(
    save_bundle: Save,
    checkpoint_model: GPT2LMHeadModel,
    vocabulary: Vocabulary,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    folder = save_bundle()
    damage(folder)
    with pytest.raises(ExportError, match=message):
        verify(folder, checkpoint_model, vocabulary, torch.float32)


def test_weights_beyond_float16_are_refused(
    save_bundle: Save, checkpoint_model: GPT2LMHeadModel, vocabulary: Vocabulary
) -> None:
    weight = checkpoint_model.transformer.h[0].mlp.c_fc.weight
    before = weight.data.clone()
    weight.data[0, 0] = 1e6
    try:
        with pytest.raises(ExportError, match=r"out of the range of torch\.float16; set export.dtype to float32"):
            verify(save_bundle(dtype=torch.float16), checkpoint_model, vocabulary, torch.float16)
    finally:
        weight.data = before

"""transformers' own GPT-2: made, loaded, resized for Theta's vocabulary, saved."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from theta.bases.descriptors import locate_weights
from theta.bases.presets import VOCABULARY_SIZE, columns, preset
from theta.errors import BaseModelError, reason
from theta.files import replacing_folder, writing
from theta.tokens.vocabulary import SPECIAL_TOKENS_ADDED


def from_base(descriptor: dict[str, Any], vocabulary_size: int) -> GPT2LMHeadModel:
    """The model that training starts from, in float32, resized for `vocabulary_size` tokens.

    Args:
        descriptor: `models/base/weights.json`, made by the fetch stage.

    Raises:
        BaseModelError: its files are not on this machine, or cannot be read.
    """
    model = pretrained(descriptor)
    if model is None:
        size = preset(descriptor["preset"])
        model = new(size.layers, size.heads, size.width, seed=descriptor["seed"])
    resize(model, vocabulary_size)
    return model


def pretrained(descriptor: dict[str, Any]) -> GPT2LMHeadModel | None:
    """The base as it is stored, in float32, or None for a new model.

    Raises:
        BaseModelError: its files are not on this machine, or cannot be read.
    """
    folder = locate_weights(descriptor)
    return load(folder) if folder else None


@torch.no_grad()
def mix_in(model: GPT2LMHeadModel, base: GPT2LMHeadModel, share: float, vocabulary_size: int) -> None:
    """Move every weight this share of the way back to the base's; both models are in float32.

    What was learned stays for the most part, and much of what was forgotten comes back. (Wortsman et al. 2022, Robust
    fine-tuning of zero-shot models.) Tokens that the base does not know keep their embeddings.
    """
    weights = dict(model.named_parameters())
    assert all(weight.dtype == torch.float32 for weight in weights.values()), "bfloat16 rounds the change away"
    for name, theirs in base.named_parameters():
        rows = len(theirs) if name != "transformer.wte.weight" else known_rows(len(theirs), vocabulary_size)
        weights[name][:rows].lerp_(theirs[:rows], share)


def new(layers: int, heads: int, width: int, *, seed: int, vocabulary_size: int = VOCABULARY_SIZE) -> GPT2LMHeadModel:
    """A GPT-2 with random weights; the same seed gives the same weights.

    Weights are normal with standard deviation 1 / sqrt(width), which keeps the size of what flows through. GPT-2's own
    0.02 is right for widths above 1,000; at width 128 it made learning three times slower (docs/decisions.md).
    """
    config = GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, vocab_size=vocabulary_size, initializer_range=width**-0.5
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def load(folder: Path) -> GPT2LMHeadModel:
    """A GPT-2 from a folder of Hugging Face's layout, in float32, whatever it is stored in.

    Raises:
        BaseModelError: the weights cannot be read or are not those of its config.
    """
    logging.disable_progress_bar()  # one file, seconds at most
    try:
        model, report = GPT2LMHeadModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as fault:
        raise BaseModelError(f"{folder} cannot be loaded: {reason(fault)}") from fault
    if missing := sorted(report["missing_keys"]):
        raise BaseModelError(f"{folder} lacks the weights {', '.join(missing[:3])}; fetch or copy it again.")
    return model


def known_rows(base_rows: int, vocabulary_size: int) -> int:
    """Rows of the base's embedding that belong to tokens which the base was trained on.

    A base with more rows than tokens was padded: what is in the place of the special tokens was never trained.
    """
    return base_rows if base_rows <= vocabulary_size else vocabulary_size - SPECIAL_TOKENS_ADDED


def resize(model: GPT2LMHeadModel, vocabulary_size: int) -> None:
    """Give the model rows for `vocabulary_size` tokens and pad them to a multiple of 64.

    New rows start at the mean of the old ones: random rows wreck gpt2 and gpt2-medium, which then say nothing but
    the new tokens. Padding rows are zero; the loss never lets them be chosen.
    """
    old = model.transformer.wte.weight.data
    known = known_rows(len(old), vocabulary_size)
    rows = old.new_zeros(columns(vocabulary_size), old.shape[1])
    rows[:known] = old[:known]
    rows[known:vocabulary_size] = old[:known].mean(dim=0)
    _set_embedding(model, rows)


def trim(model: GPT2LMHeadModel, vocabulary_size: int) -> None:
    """Take the padding rows away again."""
    _set_embedding(model, model.transformer.wte.weight.data[:vocabulary_size].clone())


def _set_embedding(model: GPT2LMHeadModel, rows: torch.Tensor) -> None:
    embedding = model.transformer.wte
    embedding.weight = torch.nn.Parameter(rows)
    embedding.num_embeddings = rows.shape[0]
    model.lm_head.weight = embedding.weight
    model.lm_head.out_features = rows.shape[0]
    model.config.vocab_size = rows.shape[0]


def set_dropout(model: GPT2LMHeadModel, dropout: float | str) -> None:
    """Dropout on embeddings and residual branches; "base" leaves both as the base's config has them.

    Attention weights are not dropped (no flash kernel does it).
    """
    if dropout == "base":
        return
    model.transformer.drop.p = dropout
    for block in model.transformer.h:
        block.attn.resid_dropout.p = block.mlp.dropout.p = dropout


def fuse_activation(model: GPT2LMHeadModel) -> None:
    """Use torch's own GELU where the model spells it out in eight steps, each of which would be held for backward."""
    if model.config.activation_function == "gelu_new":
        for block in model.transformer.h:
            block.mlp.act = torch.nn.GELU(approximate="tanh")


def save(model: GPT2LMHeadModel, folder: Path) -> None:
    """Write config.json and model.safetensors.

    Raises:
        StorageError: the folder cannot be written, or holds other files.
    """
    logging.disable_progress_bar()
    with replacing_folder(folder) as temporary:
        with writing(temporary / "model.safetensors"):
            model.save_pretrained(temporary)
        # safetensors lets nobody but the owner read its file; the config has the mode that the user wants.
        shutil.copymode(temporary / "config.json", temporary / "model.safetensors")

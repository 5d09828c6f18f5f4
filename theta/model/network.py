"""Create, load, resize and save transformers' own GPT-2."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from warnings import catch_warnings, simplefilter
from zipfile import is_zipfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from theta.bases import weight_files
from theta.bases.config import SHAPE
from theta.bases.descriptors import known_rows, locate_weights
from theta.bases.hub import CONFIG
from theta.bases.presets import VOCABULARY_SIZE, columns, preset
from theta.errors import BaseModelError, reason
from theta.files import read_json, replacing_folder, writing
from theta.machine.mkl import prepare_vector_functions


def from_base(descriptor: dict[str, Any], vocabulary_size: int) -> GPT2LMHeadModel:
    """Return the model that training starts from, in float32, resized for `vocabulary_size` tokens.

    Args:
        descriptor: the content of `models/base/weights.json`, which the fetch stage writes.

    Raises:
        BaseModelError: its files are not on this machine, or are not those of a GPT-2 that Theta can train.
    """
    model = pretrained(descriptor)
    if model is None:
        size = preset(descriptor["preset"])
        model = new(size.layers, size.heads, size.width, seed=descriptor["seed"])
    resize(model, vocabulary_size)
    return model


def pretrained(descriptor: dict[str, Any]) -> GPT2LMHeadModel | None:
    """Return the base in float32, without rows of its embedding that represent no token; None for a new model.

    Raises:
        BaseModelError: its files are not on this machine, or are not those of a GPT-2 that Theta can train.
    """
    folder = locate_weights(descriptor)
    if folder is None:
        return None
    model = load(folder)
    trim(model, known_rows(descriptor))
    _forget_foreign_ids(model)
    return model


@torch.no_grad()
def mix_in(model: GPT2LMHeadModel, base: GPT2LMHeadModel, share: float) -> None:
    """Move every weight by this fraction of the way back to the base; both models are in float32.

    Most of what was learned stays, and much of what was forgotten comes back. (Wortsman et al. 2022, Robust
    fine-tuning of zero-shot models.) Tokens that the base does not know keep their embeddings.
    """
    weights = dict(model.named_parameters())
    assert all(weight.dtype == torch.float32 for weight in weights.values()), "bfloat16 rounds the change away"
    for name, theirs in base.named_parameters():
        weights[name][: len(theirs)].lerp_(theirs, share)


def new(layers: int, heads: int, width: int, *, seed: int, vocabulary_size: int = VOCABULARY_SIZE) -> GPT2LMHeadModel:
    """Return a GPT-2 with random weights; the same seed gives the same weights.

    Weights are normal with standard deviation 1 / sqrt(width), which preserves the scale of activations. GPT-2's own
    0.02 is right for widths above 1,000; at width 128 it made learning three times slower (docs/decisions.md).
    """
    prepare_vector_functions()
    config = GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, vocab_size=vocabulary_size, initializer_range=width**-0.5
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def load(folder: Path) -> GPT2LMHeadModel:
    """Load a GPT-2 in float32 from a folder in Hugging Face's layout, in whichever number format it is stored.

    Raises:
        BaseModelError: the weights cannot be read, are not those of its config, or the output matrix is not the
            embedding.
    """
    prepare_vector_functions()
    logging.disable_progress_bar()  # one file, seconds at most
    # transformers prints twenty lines on a fault and continues; its report is read below. torch warns of old pickles.
    with _quiet(), catch_warnings():
        simplefilter("ignore")
        try:
            model, report = GPT2LMHeadModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        except UnpicklingError as fault:  # torch's own words advise to run the code
            raise BaseModelError(
                f"{folder} cannot be loaded: {weight_files.PICKLED} holds something other than tensors, which could "
                "run code when it is read, or is damaged; copy or export the model again."
            ) from fault
        except Exception as fault:  # damaged files raise errors of a dozen kinds
            raise BaseModelError(f"{folder} cannot be loaded: {reason(fault)}") from fault
    if missing := sorted(report["missing_keys"]):
        raise BaseModelError(f"{folder} lacks the weights {', '.join(missing[:3])}; fetch or copy it again.")
    output, embedding = model.lm_head.weight, model.transformer.wte.weight
    weight_files.check_tied(str(folder), output is embedding or torch.equal(output, embedding))
    return model


def _forget_foreign_ids(model: GPT2LMHeadModel) -> None:
    """Remove ids beyond the vocabulary, of which transformers warns: GPT-2's own, where a config names none."""
    for config in (model.config, model.generation_config):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if isinstance(id_ := getattr(config, name), int) and id_ >= model.config.vocab_size:
                setattr(config, name, None)


def check_pickled(descriptor: dict[str, Any]) -> None:
    """Check that pickled weights are those of the GPT-2 that config.json describes; hardly any of them are read.

    Only tensors are unpickled, so a file that would run code is refused.

    Args:
        descriptor: of a base whose weights are pickled.

    Raises:
        BaseModelError: a file is damaged or dangerous, or the weights belong to another model.
    """
    folder = locate_weights(descriptor)
    assert folder is not None
    stored: dict[str, torch.Tensor] = {}
    for name in descriptor["files"]:
        if name.endswith(".bin"):
            tensors = _unpickle(descriptor["name"], folder / name)
            stored |= {weight_files.plain_name(key): tensor for key, tensor in tensors.items()}
    config = {**read_json(folder / CONFIG), **{key: descriptor[fact] for fact, (key, _) in SHAPE.items()}}
    formats = {key: (_FORMATS.get(each.dtype, str(each.dtype)), tuple(each.shape)) for key, each in stored.items()}
    weight_files.check_shapes(descriptor["name"], formats, config)
    embedding, output = (stored.get(key) for key in (weight_files.EMBEDDING, weight_files.OUTPUT_MATRIX))
    if embedding is not None and output is not None:
        weight_files.check_tied(descriptor["name"], torch.equal(embedding, output))


_FORMATS = dict(zip((torch.float64, torch.float32, torch.float16, torch.bfloat16), weight_files.FLOATS, strict=True))


def _unpickle(base: str, path: Path) -> dict[str, torch.Tensor]:
    try:
        with catch_warnings():
            simplefilter("ignore")  # about other pickle formats, which are refused or read below
            # Files of torch before 1.6 are not ZIP archives and cannot be mapped.
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except UnpicklingError:
        raise BaseModelError(
            f"model.base '{base}': {path.name} holds something other than tensors, which could run code when it is "
            "read, or is damaged. Choose another base, or one with model.safetensors."
        ) from None
    except Exception as fault:  # damaged files raise errors of a dozen kinds
        raise BaseModelError(
            f"model.base '{base}': {path.name} is damaged ({reason(fault)}); copy or download it again."
        ) from None
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise BaseModelError(
            f"model.base '{base}': {path.name} is not a plain list of weights; save the model with `save_pretrained`."
        )
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def resize(model: GPT2LMHeadModel, vocabulary_size: int) -> None:
    """Give the model rows for `vocabulary_size` tokens and pad them to a multiple of 64.

    New rows start at the mean of the old ones: random rows wreck gpt2 and gpt2-medium, which then produce only the
    new tokens. Padding rows are zero; the loss gives them no probability.

    Args:
        model: without padding rows, as `pretrained` and `new` return it.
    """
    old = model.transformer.wte.weight.data
    known = min(vocabulary_size, old.shape[0])
    rows = old.new_zeros(columns(vocabulary_size), old.shape[1])
    rows[:known] = old[:known]
    rows[known:vocabulary_size] = old[:known].mean(dim=0)
    _set_embedding(model, rows)


def trim(model: GPT2LMHeadModel, vocabulary_size: int) -> None:
    """Remove the rows of the embedding that represent no token."""
    _set_embedding(model, model.transformer.wte.weight.data[:vocabulary_size].clone())


def _set_embedding(model: GPT2LMHeadModel, rows: torch.Tensor) -> None:
    """Make `rows` [tokens, width] the embedding and, as GPT-2 ties them, the output matrix."""
    embedding = model.transformer.wte
    embedding.weight = torch.nn.Parameter(rows)
    embedding.num_embeddings = rows.shape[0]
    model.lm_head.weight = embedding.weight
    model.lm_head.out_features = rows.shape[0]
    model.config.vocab_size = rows.shape[0]
    model.config.tie_word_embeddings = True


def set_dropout(model: GPT2LMHeadModel, dropout: float | str) -> None:
    """Set dropout on embeddings and residual branches; "base" keeps both values of the base's config.

    Attention weights are not dropped out (no flash kernel supports it).
    """
    if dropout == "base":
        return
    model.transformer.drop.p = dropout
    for block in model.transformer.h:
        block.attn.resid_dropout.p = block.mlp.dropout.p = dropout


def fuse_activation(model: GPT2LMHeadModel) -> None:
    """Use torch's own GELU instead of eight operations whose results would all be held for the backward pass."""
    if model.config.activation_function == "gelu_new":
        for block in model.transformer.h:
            block.mlp.act = torch.nn.GELU(approximate="tanh")


def save(model: GPT2LMHeadModel, folder: Path, conversation_tokens: int | None = None) -> None:
    """Write config.json and model.safetensors.

    Args:
        conversation_tokens: how many a conversation may have, for config.json; see `theta.train.samples`.

    Raises:
        StorageError: the folder cannot be written, or holds other files.
    """
    logging.disable_progress_bar()
    if conversation_tokens:
        model.config.conversation_tokens = conversation_tokens
    with replacing_folder(folder) as temporary:
        with writing(temporary / "model.safetensors"):
            model.save_pretrained(temporary)
        # safetensors makes its file readable by the owner alone; the config has the mode that the user wants.
        shutil.copymode(temporary / "config.json", temporary / "model.safetensors")

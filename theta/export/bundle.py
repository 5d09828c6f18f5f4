"""The exported folder, which every Hugging Face reader opens, including older versions.

Both weight files hold the same tensors under the same names. The output matrix is the embedding (tied), so neither file
stores it: every reader of GPT-2 ties it as config.json says, and a second name would make the two files differ, because
safetensors refuses tensors that share memory.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.bases.weight_files import OUTPUT_MATRIX, PICKLED, SAFETENSORS
from theta.errors import ExportError
from theta.files import write_json, write_text, writing
from theta.generate.folder import CARD, SUMS, write_sums
from theta.generate.settings import GenerationSettings
from theta.tokens.vocabulary import END_OF_TEXT, Vocabulary

FILES = (
    "config.json",
    PICKLED,
    "tokenizer.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    SAFETENSORS,
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template_training.jinja",
    "generation_config.json",
    SUMS,
    CARD,
)
"""The files of the folder; the first six have been promised since the first release."""


def write(
    folder: Path,
    model: GPT2LMHeadModel,
    vocabulary: Vocabulary,
    generation: GenerationSettings,
    *,
    dtype: torch.dtype,
    card: str,
) -> None:
    """Write all files into a new folder.

    Args:
        folder: must not exist; callers replace an older one with `theta.files.replacing_folder`.
        model: a model without padding rows; it is not changed.
        generation: the default sampling parameters of readers.
        dtype: number format of the weight files.
        card: text of README.md.

    Raises:
        ExportError: model and vocabulary do not match.
        StorageError: a file cannot be written.
    """
    if model.config.vocab_size != vocabulary.size:
        raise ExportError(
            f"The checkpoint has {model.config.vocab_size} embeddings and the tokenizer {vocabulary.size} tokens; "
            "run `dvc repro` so that both come from one run."
        )
    vocabulary.save(folder, model.config.n_positions)
    ids = special_ids(vocabulary)
    write_json(folder / "config.json", _config(model, dtype, ids))
    write_json(folder / "generation_config.json", {**generation.to_generation_config(), **ids})
    tensors = dict(stored_tensors(model, dtype))
    with writing(folder / SAFETENSORS):
        save_file(tensors, folder / SAFETENSORS, metadata={"format": "pt"})
        shutil.copymode(folder / "config.json", folder / SAFETENSORS)  # safetensors lets only the owner read it
    with writing(folder / PICKLED):
        torch.save(tensors, folder / PICKLED)  # the file contains its own name: the same name gives the same bytes
    write_sums(folder, [name for name in FILES if name not in (SUMS, CARD)])
    write_text(folder / CARD, card)


def special_ids(vocabulary: Vocabulary) -> dict[str, int]:
    """Return the ids for config.json and generation_config.json: a reply ends with `END`, not with end-of-text."""
    end_of_text = vocabulary.tokenizer.token_to_id(END_OF_TEXT)
    return {
        "bos_token_id": vocabulary.end_id if end_of_text is None else end_of_text,
        "eos_token_id": vocabulary.end_id,
        "pad_token_id": vocabulary.pad_id,
    }


def stored_tensors(model: GPT2LMHeadModel, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Yield the named tensors of the weight files, contiguous and without shared memory, as both formats require."""
    for name, tensor in model.state_dict().items():
        if name != OUTPUT_MATRIX:
            yield name, tensor.detach().to("cpu", dtype, copy=True).contiguous()


def _config(model: GPT2LMHeadModel, dtype: torch.dtype, ids: Mapping[str, int]) -> dict[str, Any]:
    """The model's config without the keys that older versions of transformers left in configs on the hub.

    For example, gpt2's `task_specific_params` would override generation_config.json in pipelines.
    """
    config: dict[str, Any] = model.config.to_diff_dict()
    for stale in ("_name_or_path", "_attn_implementation", "task_specific_params", "torch_dtype"):
        config.pop(stale, None)
    return {
        **config,
        **ids,
        "architectures": ["GPT2LMHeadModel"],
        "dtype": str(dtype).removeprefix("torch."),
        "n_ctx": model.config.n_positions,  # OpenAI's name, which llama.cpp's converter reads
        "tie_word_embeddings": True,
        "use_cache": True,
    }

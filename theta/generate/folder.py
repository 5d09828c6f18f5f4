"""Check a model folder before torch and transformers are imported, which takes seconds."""

import json
from pathlib import Path
from typing import Any

from theta.bases.weight_files import PICKLED, SAFETENSORS
from theta.errors import GenerationError

WEIGHTS = (SAFETENSORS, PICKLED)
"""Either file suffices; with both, readers take the first."""


CONVERSATION_TOKENS = "conversation_tokens"
"""The key of config.json that holds how many tokens the longest conversation had that the model learned."""


def lacking(folder: Path) -> list[str]:
    """Describe the files that `folder` lacks to be a model; empty if it is complete."""
    absent = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    return absent if any((folder / name).is_file() for name in WEIGHTS) else [*absent, " or ".join(WEIGHTS)]


def check(folder: Path) -> dict[str, Any]:
    """Check that `folder` holds a GPT-2 model with its tokenizer, and return its config.json.

    Raises:
        GenerationError: the folder or a file is missing, or the model is of another kind.
    """
    if not folder.is_dir():
        raise GenerationError(
            f"{folder} is not a folder; give one that Theta exported, such as models/theta_final, "
            "which `dvc repro` writes."
        )
    if absent := lacking(folder):
        raise GenerationError(f"{folder} lacks {', '.join(absent)}; `dvc repro export` writes a complete folder.")
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (ValueError, KeyError, TypeError):
        raise GenerationError(f"{folder / 'config.json'} is not a model config; export the model again.") from None
    if kind != "gpt2":
        raise GenerationError(f"{folder} holds a model of type {kind!r}; Theta answers from GPT-2 models.")
    return config

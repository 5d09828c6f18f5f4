"""Check a model folder before torch and transformers are imported, which takes seconds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from theta.bases.weight_files import PICKLED, SAFETENSORS
from theta.errors import GenerationError
from theta.files import sha256, write_text

WEIGHTS = (SAFETENSORS, PICKLED)
"""Either file suffices; with both, readers take the first."""
SUMS = "SHA256SUMS"
"""Lists the SHA-256 of the other files; `sha256sum -c SHA256SUMS` reads it too."""
CARD = "README.md"
"""The model card is not listed: a person may edit it."""


CONVERSATION_TOKENS = "conversation_tokens"
"""The key of config.json that says how many tokens a conversation may have for the model to reply well."""


WHOLE_NUMBERS = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size", CONVERSATION_TOKENS)
"""The keys of config.json that are used."""


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
    for name in WHOLE_NUMBERS:
        value = config.get(name)
        if value is not None and not (isinstance(value, int) and value > 0):
            raise GenerationError(
                f"{folder / 'config.json'}: {name} is {value!r}, expected a whole number above 0; export the model "
                "again."
            )
    if kind != "gpt2":
        raise GenerationError(f"{folder} holds a model of type {kind!r}; Theta runs GPT-2 models only.")
    return config


def write_sums(folder: Path, names: Sequence[str]) -> None:
    """Write `SUMS` for these files of a model folder, in the format of sha256sum.

    Raises:
        StorageError: it cannot be written.
    """
    write_text(folder / SUMS, "".join(f"{sha256(folder / name)}  {name}\n" for name in sorted(names)))


def verify(folder: Path) -> None:
    """Compare every file of a model folder, except for the card, with `SUMS`.

    Raises:
        GenerationError: a file differs, is missing or is not listed, or there is no readable `SUMS`.
    """
    remedy = "run `dvc checkout` to get the exported files back, or export or copy the model again."
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        expected = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as fault:
        raise GenerationError(f"{folder / SUMS} cannot be read ({type(fault).__name__}); {remedy}") from None
    found = {path.name for path in folder.iterdir()} - {SUMS, CARD}
    for name in sorted(found | expected.keys()):
        if name not in expected:
            raise GenerationError(f"{folder / name} is not listed in {SUMS}: Theta did not export it; move it away.")
        if name not in found:
            raise GenerationError(f"{folder / name} is missing, and {SUMS} lists it; {remedy}")
        if (digest := sha256(folder / name)) != expected[name]:
            raise GenerationError(
                f"{folder / name} has the SHA-256 {digest}, and {SUMS} lists {expected[name]}; {remedy}"
            )

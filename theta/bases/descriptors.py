"""The model that training starts from, as two small descriptors of content.

    resolve("gpt2", ...) -> weights    kind, name, revision, sha256 of config.json and the weight files, shape
                            tokenizer  kind, name, revision, sha256 of the tokenizer's files, positions

Stages that depend on a descriptor rerun when the bytes of a base change, and only then. The tokenizer's says no more
than that the vocabulary is GPT-2's where it is, so going from gpt2 to gpt2-medium tokenizes nothing again. No path of
a machine stands in them: `locate_weights` and `locate_tokenizer` find the files where they lie today.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta.bases import local
from theta.bases.hub import CONFIG, OWNER, Repository, cached_folders
from theta.bases.presets import GPT2, POSITIONS, PRESETS, VOCABULARY_SIZE, Preset, preset
from theta.errors import BaseModelError
from theta.files import sha256
from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

Descriptor = dict[str, Any]

SCRATCH = "scratch:"
INDEX = ".index.json"
WEIGHTS = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""In the order in which transformers prefers them."""
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""In the order in which `Vocabulary.from_base` prefers them."""
REHEARSAL = "rehearsal.jsonl"
"""Conversations that a local base may bring along, to be rehearsed while it is fine-tuned."""
SHIPPED_FILES = ("vocab.json", "merges.txt")
SHAPE = {
    "positions": ("n_positions", POSITIONS),
    "layers": ("n_layer", 12),
    "heads": ("n_head", 12),
    "width": ("n_embd", 768),
    "vocabulary_size": ("vocab_size", VOCABULARY_SIZE),
}
"""Facts of a descriptor: key in a GPT-2's config.json, and what GPT-2 has where the key is left out."""


@dataclass(frozen=True, slots=True)
class _Source:
    kind: str
    name: str
    revision: str | None
    file: Callable[[str], Path | None]
    """The path of a file of the base, None if it has none of that name."""


def resolve(base: str, revision: str | None, seed: int, outs: Sequence[Path]) -> tuple[Descriptor, Descriptor]:
    """The descriptors of a base's weights and tokenizer; a hub base is downloaded if this machine lacks it.

    Args:
        base: a folder, a name on the hub, or `scratch:` and a preset. A folder goes before a name on the hub.
        revision: commit, tag or branch of a hub base; None for the pinned one.
        seed: of the initial weights of a scratch base.
        outs: folders that the pipeline writes; a base in one of them would depend on itself.

    Raises:
        BaseModelError: the base cannot be had, is of another kind, or lies in one of `outs`.
        DataError: its tokenizer is not of GPT-2's kind.
    """
    if base.startswith(SCRATCH):
        _refuse_revision(base, revision)
        return _scratch(base, seed), _shipped_tokenizer(POSITIONS)
    local.refuse_cycle(base, outs)
    folders = local.folders(base)
    if not folders:
        local.refuse_missing(base)
        repository = Repository(base, revision)
        return _describe(_Source("hub", base, repository.commit, repository.file))
    _refuse_revision(base, revision)
    # A copy of the project may hold what git tracks of the folder, without the weights.
    folder = next((each for each in folders if any((each / name).is_file() for name in WEIGHTS)), folders[0])
    return _describe(_local(local.portable_name(base, folder), folder))


def locate_weights(descriptor: Descriptor) -> Path | None:
    """The folder that holds config.json and the weights; None for a scratch base, which has none.

    Raises:
        BaseModelError: the files are not on this machine.
    """
    return None if descriptor["kind"] == "scratch" else _locate(descriptor)


def locate_tokenizer(descriptor: Descriptor) -> Path:
    """The folder for `Vocabulary.from_base`.

    Raises:
        BaseModelError: the files are not on this machine.
    """
    return GPT2_FOLDER if descriptor["kind"] == "shipped" else _locate(descriptor)


def rehearsal(weights: Descriptor) -> bytes:
    """The conversations that a local base brings along, as its file has them; empty where there are none.

    Raises:
        BaseModelError: the files of the base are not on this machine.
    """
    if weights["kind"] != "local":
        return b""
    path = _locate(weights) / REHEARSAL
    return path.read_bytes() if path.is_file() else b""


def shape(base: str) -> dict[str, int]:
    """Positions, layers, heads, width and vocabulary size of a base; neither its weights nor a network are needed.

    Args:
        base: `scratch:` and a preset, a folder with a config.json, or one of OpenAI's four sizes.

    Raises:
        BaseModelError: it is none of these, or the folder is of another kind.
    """
    if base.startswith(SCRATCH):
        return _shape_of(preset(base.removeprefix(SCRATCH)))
    if folders := local.folders(base):
        return _shape(_local(base, folders[0]))
    if size := GPT2.get(base.removeprefix(OWNER)):
        return _shape_of(size)
    known = ", ".join([*GPT2, *(SCRATCH + name for name in PRESETS)])
    raise BaseModelError(f"The shape of '{base}' is not known here; give a folder with {CONFIG}, or one of {known}.")


def parameters(weights: Descriptor) -> int:
    """How many numbers a base of this shape learns (perceptrons four times as wide as the stream, as in GPT-2)."""
    width, inner = weights["width"], 4 * weights["width"]
    attention = width * 3 * width + 3 * width + width * width + width
    perceptron = width * inner + inner + inner * width + width
    block = attention + perceptron + 2 * 2 * width  # and two layer norms
    embeddings = (weights["vocabulary_size"] + weights["positions"]) * width
    return int(embeddings + weights["layers"] * block + 2 * width)


def _locate(descriptor: Descriptor) -> Path:
    name, files = descriptor["name"], descriptor["files"]
    is_hub = descriptor["kind"] == "hub"
    folders = cached_folders(name, descriptor["revision"]) if is_hub else local.folders(name)
    for folder in folders:
        if all((folder / file).is_file() for file in files):
            return folder
    raise BaseModelError(f"The files of model.base '{name}' are not on this machine; run `dvc repro -f fetch`.")


def _refuse_revision(base: str, revision: str | None) -> None:
    if revision is not None:
        raise BaseModelError(
            f"model.revision is '{revision}', but model.base '{base}' is not on a hub; set it to null."
        )


def _scratch(base: str, seed: int) -> Descriptor:
    name = base.removeprefix(SCRATCH)
    return {
        "kind": "scratch", "name": base, "revision": None, "files": {}, "preset": name, "seed": seed,
        **_shape_of(preset(name)),
    }  # fmt: skip


def _local(name: str, folder: Path) -> _Source:
    return _Source("local", name, None, lambda file: path if (path := folder / file).is_file() else None)


def _describe(source: _Source) -> tuple[Descriptor, Descriptor]:
    shape = _shape(source)
    origin = {"kind": source.kind, "name": source.name, "revision": source.revision}
    weights = {**origin, **shape, "files": _digests(source, (CONFIG, *_weight_files(source)))}
    names = next((names for names in TOKENIZERS if all(map(source.file, names))), None)
    if names is None:
        raise BaseModelError(f"model.base '{source.name}' has neither tokenizer.json nor vocab.json with merges.txt.")
    if _is_shipped(_file(source, names[0]).parent):
        return weights, _shipped_tokenizer(shape["positions"])
    return weights, {**origin, "positions": shape["positions"], "files": _digests(source, names)}


def _shape_of(size: Preset) -> dict[str, int]:
    return {
        "positions": POSITIONS, "layers": size.layers, "heads": size.heads, "width": size.width,
        "vocabulary_size": VOCABULARY_SIZE,
    }  # fmt: skip


def _shape(source: _Source) -> dict[str, int]:
    config = _json(source, CONFIG)
    if config.get("model_type") != "gpt2":
        raise BaseModelError(
            f"model.base '{source.name}' is a model of type {config.get('model_type')!r}; Theta trains type 'gpt2'."
        )
    shape = {fact: config.get(key, usual) for fact, (key, usual) in SHAPE.items()}
    for fact, value in shape.items():
        if type(value) is not int or value < 1:
            raise BaseModelError(f"model.base '{source.name}': {SHAPE[fact][0]} in {CONFIG} is {value!r}, not a count.")
    return shape


def _weight_files(source: _Source) -> list[str]:
    for name in WEIGHTS:
        if source.file(name) is None:
            continue
        if not name.endswith(INDEX):
            return [name]
        shards = _json(source, name).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise BaseModelError(f"model.base '{source.name}': {name} lists no weight files; copy the base again.")
        return [name, *sorted(set(shards.values()))]
    raise BaseModelError(f"model.base '{source.name}' has no weights: none of {', '.join(WEIGHTS)}.")


def _file(source: _Source, name: str) -> Path:
    path = source.file(name)
    if path is None:
        raise BaseModelError(f"model.base '{source.name}' has no {name}; is it a folder that transformers saved?")
    return path


def _json(source: _Source, name: str) -> dict[str, Any]:
    try:
        value = json.loads(_file(source, name).read_text(encoding="utf-8"))
    except ValueError as fault:
        raise BaseModelError(f"model.base '{source.name}': {name} is not valid JSON ({fault}).") from None
    if not isinstance(value, dict):
        raise BaseModelError(f"model.base '{source.name}': {name} holds no JSON object; copy the base again.")
    return value


def _digests(source: _Source, names: Sequence[str]) -> dict[str, str]:
    return {name: sha256(_file(source, name)) for name in names}


def _shipped_tokenizer(positions: int) -> Descriptor:
    files = {name: sha256(GPT2_FOLDER / name) for name in SHIPPED_FILES}
    return {"kind": "shipped", "name": "gpt2", "revision": None, "files": files, "positions": positions}


def _is_shipped(folder: Path) -> bool:
    """Whether a base's vocabulary, with Theta's tokens added, gives the ids that the shipped one gives.

    Files differ where ids do not: a folder that Theta exported has those tokens already.
    """
    return _ids(folder) == _ids(GPT2_FOLDER)


def _ids(folder: Path) -> tuple[Any, ...]:
    content = json.loads(Vocabulary.from_base(folder).tokenizer.to_str())
    model, splitter = content["model"], content["pre_tokenizer"] or {}
    splitter.pop("trim_offsets", None)  # moves offsets, not ids
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    return model["vocab"], model["merges"], added, content["normalizer"], splitter

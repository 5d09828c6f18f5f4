"""The model that training starts from, as two small descriptors of its content.

    resolve("gpt2", ...) -> weights    kind, name, revision, SHA-256 of config.json and the weight files, shape, tokens,
                                       whether Theta has fine-tuned it
                            tokenizer  kind, name, revision, SHA-256 of the tokenizer's files, positions

Stages that depend on a descriptor rerun only if the bytes of the base change. The tokenizer's descriptor is the same
for all bases with GPT-2's vocabulary, so changing gpt2 to gpt2-medium does not run tokenize again. Descriptors hold
no machine's paths: `locate_weights` and `locate_tokenizer` find the files on the current one.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from theta.bases import config, local, weight_files
from theta.bases.digests import Digests
from theta.bases.hub import CONFIG, OWNER, Repository, cached_folders
from theta.bases.presets import GPT2, POSITIONS, PRESETS, VOCABULARY_SIZE, Preset, parameter_count, preset
from theta.bases.source import Source
from theta.errors import BaseModelError, DataError
from theta.files import read_json, sha256
from theta.tokens.vocabulary import (
    GPT2_FILES,
    GPT2_FOLDER,
    SPECIAL_TOKENS_ADDED,
    TOKENIZER_JSON,
    base_size,
    shipped_size,
)

Descriptor = dict[str, Any]

SCRATCH = "scratch:"
TOKENIZERS = ((TOKENIZER_JSON,), GPT2_FILES)
"""Files of a tokenizer, in the order in which `Vocabulary.from_base` prefers them."""
REHEARSAL = "rehearsal.jsonl"
"""Optional file of a local base with conversations to mix into fine-tuning; that of a release lies beside its model."""
MODEL_OF_RELEASE = "theta_final"
PROVENANCE = "provenance.json"
"""File beside the model of a release that says what it was made from."""
LINEAGE = ("revision", "data", "settings", "base")
"""What a descriptor keeps of the base's own provenance. The base within has its own, back to the first one."""


def resolve(base: str, revision: str | None, seed: int, outs: Sequence[Path]) -> tuple[Descriptor, Descriptor]:
    """Return the descriptors of a base's weights and tokenizer, after downloading a hub base that is not cached.

    Args:
        base: a folder, a name on the hub, or `scratch:` and a preset. A folder takes precedence over a name on the hub.
        revision: commit, tag or branch of a hub base; None for the pinned commit.
        seed: seed of the initial weights of a scratch base.
        outs: folders that the pipeline writes; a base inside one would depend on itself.

    Raises:
        BaseModelError: the base is missing, cannot be fetched, is damaged, is not a model that Theta trains, or is
            inside one of `outs`.
        DataError: the tokenizer of the base cannot be used.
    """
    if base.startswith(SCRATCH):
        _refuse_revision(base, revision)
        return _scratch(base, seed), _shipped_tokenizer(POSITIONS)
    local.refuse_cycle(base, outs)
    folders = local.folders(base)
    if not folders:
        local.refuse_missing(base)
        repository = Repository(base, revision)
        return _describe(Source("hub", base, repository.commit, repository.file))
    _refuse_revision(base, revision)
    # A copy of the project may have only the files that git tracks, without the weights.
    complete = (each for each in folders if any((each / name).is_file() for name in weight_files.WEIGHTS))
    folder = next(complete, folders[0])
    return _describe(_local(local.portable_name(base, folder), folder))


def locate_weights(descriptor: Descriptor) -> Path | None:
    """Return the folder with config.json and the weights; None for a scratch base, which has no files.

    Raises:
        BaseModelError: the files are not on this machine.
    """
    return None if descriptor["kind"] == "scratch" else _locate(descriptor)


def locate_tokenizer(descriptor: Descriptor) -> Path:
    """Return the folder to pass to `Vocabulary.from_base`.

    Raises:
        BaseModelError: the files are not on this machine.
    """
    return GPT2_FOLDER if descriptor["kind"] == "shipped" else _locate(descriptor)


def rehearsal(weights: Descriptor) -> bytes:
    """Return the bytes of the file `REHEARSAL` of a local base or a release; empty for a base without one.

    Raises:
        BaseModelError: the files of the base are not on this machine.
    """
    if weights["kind"] != "local":
        return b""
    path = _of_release(_locate(weights), REHEARSAL)
    return path.read_bytes() if path else b""


def shape(base: str) -> dict[str, int]:
    """Return positions, layers, heads, width and vocabulary size of a base, without its weights or a network.

    Args:
        base: `scratch:` and a preset, a folder with a config.json, or one of OpenAI's four sizes.

    Raises:
        BaseModelError: `base` is none of these, or the folder holds another kind of model.
    """
    if base.startswith(SCRATCH):
        return _shape_of(preset(base.removeprefix(SCRATCH)))
    if folders := local.folders(base):
        source = _local(base, folders[0])
        return config.shape(source, config.read(source))
    if size := GPT2.get(base.removeprefix(OWNER)):
        return _shape_of(size)
    known = ", ".join([*GPT2, *(SCRATCH + name for name in PRESETS)])
    raise BaseModelError(f"The shape of '{base}' is not known; give a folder with {CONFIG}, or one of {known}.")


def parameters(weights: Mapping[str, Any]) -> int:
    """Return the number of parameters of a base of this shape, with perceptrons four times as wide as the model."""
    return parameter_count(weights["layers"], weights["width"], weights["vocabulary_size"], weights["positions"])


def known_rows(weights: Mapping[str, Any]) -> int:
    """Return the number of rows of the base's embedding that belong to a token, counted from the first.

    The rows after these are padding that was never trained, such as nanoGPT's 47; Theta's special tokens use them.
    """
    return int(min(weights["vocabulary_size"], weights["tokens"]))


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
        **_shape_of(preset(name)), "tokens": VOCABULARY_SIZE, "fine_tuned": False,
    }  # fmt: skip


def _local(name: str, folder: Path) -> Source:
    return Source("local", name, None, lambda file: path if (path := folder / file).is_file() else None)


def _describe(source: Source) -> tuple[Descriptor, Descriptor]:
    values = config.read(source)
    shape = config.shape(source, values)
    files = weight_files.weight_files(source)
    weight_files.check(source, files, {**values, **{key: shape[fact] for fact, (key, _) in config.SHAPE.items()}})
    names = next((names for names in TOKENIZERS if all(map(source.find, names))), None)
    if names is None:
        raise BaseModelError(f"model.base '{source.name}' has neither tokenizer.json nor vocab.json with merges.txt.")
    paths = [source.path(name) for name in names]
    folder = paths[0].parent
    shipped = shipped_size(folder)
    digests = Digests()
    origin = {"kind": source.kind, "name": source.name, "revision": source.revision}
    weights = {
        **origin, **shape, "tokens": shipped or base_size(folder), "fine_tuned": _is_fine_tuned(source, shipped),
        "files": {name: digests.of(source.path(name)) for name in (CONFIG, *files)},
    }  # fmt: skip
    tokenizer = _shipped_tokenizer(shape["positions"]) if shipped else {
        **origin, "positions": shape["positions"], "files": {path.name: digests.of(path) for path in paths},
    }  # fmt: skip
    digests.save()
    return {**weights, **_lineage(source)}, tokenizer


def _of_release(folder: Path, name: str) -> Path | None:
    """Return a file of a base that is in its folder or, in a release, beside it."""
    folders = (folder, folder.parent) if folder.name == MODEL_OF_RELEASE else (folder,)
    return next((each / name for each in folders if (each / name).is_file()), None)


def _lineage(source: Source) -> Descriptor:
    """Return what a release says about how it was made; nothing for another base, and for a record that is damaged."""
    path = _of_release(source.path(CONFIG).parent, PROVENANCE) if source.kind == "local" else None
    with suppress(DataError):
        if path:
            record = read_json(path, *LINEAGE)
            return {"made_by": {name: record[name] for name in LINEAGE}}
    return {}


def _is_fine_tuned(source: Source, tokens: int | None) -> bool:
    """Whether Theta has fine-tuned the base: it has Theta's special tokens, and unlike the starter no rehearsal."""
    return tokens == VOCABULARY_SIZE + SPECIAL_TOKENS_ADDED and source.find(REHEARSAL) is None


def _shape_of(size: Preset) -> dict[str, int]:
    return {
        "positions": POSITIONS, "layers": size.layers, "heads": size.heads, "width": size.width,
        "vocabulary_size": VOCABULARY_SIZE,
    }  # fmt: skip


def _shipped_tokenizer(positions: int) -> Descriptor:
    files = {name: sha256(GPT2_FOLDER / name) for name in GPT2_FILES}
    return {"kind": "shipped", "name": "gpt2", "revision": None, "files": files, "positions": positions}

"""fetch: model.base -> models/base/{weights,tokenizer}.json, which describe the base.

model.rehearsal -> models/base/rehearsal.jsonl, what the base rehearses, and rehearsal.json, which says what wrote it.

data.path -> models/base/data.json, which describes the conversations: the files and their SHA-256, or the commit of a
dataset of the hub.

rehearsal.jsonl is blank where there is nothing to rehearse. Weights are never copied.
"""

import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typer

from stages.rehearsal import rehearsal
from theta.bases.descriptors import locate_tokenizer, parameters, resolve
from theta.bases.digests import Digests, recall, remember
from theta.corpus import sources
from theta.corpus.settings import DataSettings
from theta.errors import SettingsError
from theta.export import formats
from theta.files import digest, native, replacing_file, sweep, write_json
from theta.machine.settings import MachineSettings
from theta.params import Sections, load_whole
from theta.train import automatic
from theta.train.resume_folder import forget_finished
from theta.train.settings import check_options

OUTS = (Path("models/base"), Path("models/checkpoint"), Path("models/theta_final"), Path("models/exports"))
"""Folders that the stages write; no base may be inside one."""

WRITTEN_DATA = (Path("Datasets/prepared"), Path("Datasets/tokens"))
"""Folders that the stages write from the data; data.path may hold none, and be in none."""

SYSTEM_FOLDERS = ("/proc", "/sys", "/dev")

BYTES_PER_PARAMETER = 60
"""What a run writes at most: weights in float32 as the checkpoint (4), as the best so far (4) and in both files of the
export (8); DVC's copies of checkpoint and export (12); and two resume states, with the moments and an average of the
weights, while one replaces the other (32)."""
BYTES_PER_PARAMETER_AND_FORMAT = 8
"""The same for each of `export.formats`: weights in float32, or in 16 and 8 bits, and DVC's copy."""


def fetch(
    weights: Path = Path("models/base/weights.json"),
    tokenizer: Path = Path("models/base/tokenizer.json"),
    rehearsed: Path = Path("models/base/rehearsal.jsonl"),
    rehearsal_origin: Path = Path("models/base/rehearsal.json"),
    data: Path = Path("models/base/data.json"),
    params: Path = Path("params.yaml"),
) -> None:
    """Find the base model and the data, download them if necessary, and describe them in small files.

    Raises:
        SettingsError: a section of `params` is wrong. All sections are checked here because DVC removes the outs of a
            stage before it runs: a fault found by a later stage would cost the results of the last run.
        DataError: data.path has no files of conversations, or a dataset cannot be fetched.
        BaseModelError: the base cannot be fetched or used.
    """
    sections = load_whole(params)
    model = sections.model
    described = _describe_data(sections.data)
    base, vocabulary = resolve(model.base, model.revision, model.seed, OUTS)
    _check(sections, params, base, vocabulary)
    write_json(weights, base)
    write_json(tokenizer, vocabulary)
    write_json(data, described)
    content, origin = rehearsal(sections, base, vocabulary, rehearsed, rehearsal_origin)
    with replacing_file(rehearsed) as temporary:
        temporary.write_bytes(content or b"\n")  # DVC warns about empty files
    write_json(rehearsal_origin, origin)
    commit = f" at {base['revision'][:7]}" if base["revision"] else ""
    kind = automatic.kind_of(base, parameters(base))
    if warning := automatic.learning_rate_warning(sections.train, kind):
        typer.echo(f"Warning: {warning}", err=True)
    _warn_of_small_disk(base, len(sections.export.formats))
    forget_finished()
    for out in (*OUTS, *WRITTEN_DATA):
        sweep(out)
    typer.echo(f"Base model {base['name']}{commit}: {parameters(base) / 1e6:.1f}M parameters.")


def _check(sections: Sections, params: Path, base: dict[str, Any], vocabulary: dict[str, Any]) -> None:
    """Refuse settings that do not fit the base or the machine, and a base that a later stage could not use."""
    name, max_length = sections.model.base, sections.tokenizer.max_length
    if max_length > base["positions"]:
        raise SettingsError(
            f"{params}: tokenizer.max_length is {max_length}, but model.base '{name}' has {base['positions']} "
            f"positions; set it to {base['positions']} or less."
        )
    check_options(sections.train, base["layers"])
    if sections.train.frozen_layers or sections.train.lora_rank:
        _check_special_rows(name, vocabulary)
    _check_machine(sections.machine)
    for each in sections.export.formats:
        formats.check_installed(each)
    _check_in_full(base, vocabulary)


def _check_special_rows(base: str, tokenizer: dict[str, Any]) -> None:
    """Refuse to freeze an embedding whose last rows are not the special tokens, because only those rows are learned."""
    from theta.tokens.vocabulary import Vocabulary

    vocabulary = Vocabulary.from_base(locate_tokenizer(tokenizer))
    ids = vocabulary.special_ids
    for token, id_ in ids.items():
        if id_ < vocabulary.size - len(ids):
            raise SettingsError(
                f"train.frozen_layers and train.lora_rank must be 0 for model.base '{base}', which already has {token} "
                f"as id {id_}: with these settings, only the embeddings of the last {len(ids)} ids are learned."
            )


def _check_machine(machine: MachineSettings) -> None:
    """Refuse devices that this machine does not have. For `auto`, the stages choose: torch takes seconds to import."""
    chosen = (machine.device, machine.devices, machine.memory, machine.precision)
    if any(value not in ("auto", "cpu") for value in chosen):
        from theta.train.choose import check_machine

        check_machine(machine)


def _warn_of_small_disk(base: dict[str, Any], other_formats: int) -> None:
    """Warn before training if the files of a run may not fit on the disk."""
    needed = (BYTES_PER_PARAMETER + BYTES_PER_PARAMETER_AND_FORMAT * other_formats) * parameters(base)
    free = shutil.disk_usage(Path.cwd()).free
    if free < needed:
        typer.echo(
            f"Warning: a run writes up to {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on this disk; free "
            "some space, or run `dvc gc -w` to remove results of other commits.",
            err=True,
        )


def _describe_data(settings: DataSettings) -> dict[str, Any]:
    """Find the data, and download a dataset of the hub that is not cached."""
    if not sources.is_hub(settings.path):
        _check_local_path(settings.path)
    digests, known = Digests("data_digests"), recall("data")
    described = sources.describe(
        settings.path,
        settings.include,
        settings.exclude,
        digest=digests.of,
        known=known if isinstance(known, dict) else None,
    )
    digests.save()
    if described["kind"] == "hub":
        remember("data", described)
        others = f"; other splits: {', '.join(described['other_splits'])}" if described["other_splits"] else ""
        typer.echo(f"Data {settings.path} at {described['revision'][:7]}: split {described['split']}{others}.")
    return described


def _check_local_path(path: str) -> None:
    if path.startswith("~"):
        raise SettingsError(f"data.path is '{path}', and '~' is not expanded: write {os.path.expanduser(path)}.")  # noqa: PTH111
    place = native(path).resolve()
    if Path.cwd().resolve().is_relative_to(place):
        raise SettingsError(f"data.path is '{path}', which contains this project; give a folder of conversations.")
    if any(place.is_relative_to(system) for system in SYSTEM_FOLDERS):
        raise SettingsError(f"data.path is '{path}', a folder of the operating system; give a folder of conversations.")
    for out in (*WRITTEN_DATA, *OUTS):
        if out.resolve().is_relative_to(place) or place.is_relative_to(out.resolve()):
            raise SettingsError(
                f"data.path is '{path}', and the pipeline writes {out.as_posix()}: a cycle; give a folder of "
                "conversations of its own, such as Datasets/mine."
            )


def _check_in_full(weights: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    """Check an unusual base with torch and transformers; this takes seconds and is done once for each base.

    Raises:
        BaseModelError: the base cannot be trained or exported.
    """
    is_pickled = any(name.endswith(".bin") for name in weights["files"])
    has_own_tokenizer = tokenizer["kind"] != "shipped"
    if not is_pickled and not has_own_tokenizer:
        return
    versions = [version(name) for name in ("torch", "transformers", "tokenizers")]
    content = digest([weights, tokenizer, versions])
    if recall("checked_base") == content:
        return
    if is_pickled:
        from theta.model.network import check_pickled

        check_pickled(weights)
    if has_own_tokenizer:
        from theta.export.verification import check_base_tokenizer

        check_base_tokenizer(tokenizer)
    remember("checked_base", content)

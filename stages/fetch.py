"""fetch: model.base -> models/base/{weights,tokenizer}.json, which describe the base.

model.rehearsal -> models/base/rehearsal.jsonl, what the base rehearses, and rehearsal.json, which says what wrote it.

data.path -> models/base/data.json, which describes the conversations: the files and their SHA-256, or the commit of a
dataset of the hub.

rehearsal.jsonl is blank where there is nothing to rehearse. Weights are never copied.
"""

import os
import shutil
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typer

from stages.progress import fraction
from theta.bases import local
from theta.bases.descriptors import locate_tokenizer, parameters, rehearsal, resolve
from theta.bases.digests import Digests, recall, remember
from theta.corpus import sources
from theta.corpus.settings import DataSettings
from theta.errors import DataError, SettingsError
from theta.export import formats
from theta.files import digest, native, read_json, replacing_file, sweep, write_json, write_json_lines
from theta.machine.process import prepare_gpu, set_threads
from theta.machine.settings import MachineSettings
from theta.params import Sections, load_whole
from theta.text import counted
from theta.train import automatic
from theta.train.resume_folder import forget_finished
from theta.train.settings import check_options

OUTS = (Path("models/base"), Path("models/checkpoint"), Path("models/theta_final"), Path("models/exports"))
"""Folders that the stages write; no base may be inside one."""

WRITTEN_DATA = (Path("Datasets/prepared"), Path("Datasets/tokens"))
"""Folders that the stages write from the data; data.path may hold none, and be in none."""

SYSTEM_FOLDERS = ("/proc", "/sys", "/dev")

WRITING_VERSION = 1
"""Raise it when bases shall write their rehearsal anew."""

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
    content, origin = _rehearsal(sections, base, vocabulary, rehearsed, rehearsal_origin)
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


def _rehearsal(
    sections: Sections, base: dict[str, Any], tokenizer: dict[str, Any], last: Path, last_origin: Path
) -> tuple[bytes, dict[str, Any]]:
    """Return what the base rehearses, empty if nothing, and where it comes from.

    Args:
        last, last_origin: the same of the last time; in a clone, of the machine that it was pulled from.
    """
    wanted = sections.model.rehearsal
    if wanted == "none" or base["kind"] == "scratch" or sections.train.rehearsal_share == 0:
        return b"", {"from": "nothing"}
    if wanted != "auto":
        return _rehearsal_file(wanted), {"from": "file"}
    if brought := rehearsal(base):
        return brought, {"from": "base"}
    key = digest([base["files"], tokenizer["files"], WRITING_VERSION])
    origin = {"from": "written by the base", "key": key}
    cached = local.project() / ".theta" / "rehearsal" / f"{key}.jsonl"
    if not cached.is_file() and _origin(last_origin) == origin and last.is_file():
        return last.read_bytes(), origin  # another machine would write other samples, and train again
    if not cached.is_file():
        _write_rehearsal(cached, base, tokenizer, sections.machine)
    return cached.read_bytes(), origin


def _origin(path: Path) -> Any:
    with suppress(DataError, OSError):
        return read_json(path)
    return None


def _rehearsal_file(path: str) -> bytes:
    file = next((root / path for root in (Path.cwd(), local.project()) if (root / path).is_file()), None)
    if file is None or not (content := file.read_bytes()).strip():
        why = "does not exist" if file is None else "is empty"
        raise SettingsError(
            f"model.rehearsal is '{path}', which {why}; give auto, none, or a file of conversations or texts."
        )
    return content


def _write_rehearsal(target: Path, base: dict[str, Any], tokenizer: dict[str, Any], machine: MachineSettings) -> None:
    """Let the base write texts for its own rehearsal."""
    prepare_gpu()
    from theta.generate.rehearsal import SECONDS, TOKENS, texts
    from theta.machine.cpu_sharing import share_cpus
    from theta.machine.devices import choose_device, has_bfloat16
    from theta.model import network
    from theta.tokens.vocabulary import Vocabulary

    typer.echo(
        f"{base['name']} writes texts of its own for rehearsal, once, which takes {SECONDS / 60:.0f} minutes at most "
        "(model.rehearsal: none leaves it out)."
    )
    set_threads(machine.threads)
    share_cpus()
    vocabulary = Vocabulary.from_base(locate_tokenizer(tokenizer))
    device = choose_device(machine.device)
    model = network.from_base(base, vocabulary.size).eval()
    if device.type == "cuda" and has_bfloat16(device):
        model = model.bfloat16()
    begin = time.monotonic()
    with fraction("writing rehearsal") as progress:
        written = list(texts(model.to(device), vocabulary, progress, TOKENS))
    write_json_lines(target, ({"text": text} for text in written))
    typer.echo(f"It wrote {counted(len(written), 'text')} in {time.monotonic() - begin:.0f} s.")


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

"""What a base rehearses: what it brings along, what model.rehearsal names, or texts that it writes for fetch."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from stages.progress import fraction
from theta.bases import descriptors, local
from theta.errors import DataError, SettingsError
from theta.files import digest, read_json, write_json_lines
from theta.machine.process import prepare_gpu, set_threads
from theta.machine.settings import MachineSettings
from theta.params import Sections
from theta.text import counted

WRITING_VERSION = 1
"""Raise it to let all bases write their rehearsal anew."""


def rehearsal(
    sections: Sections, base: dict[str, Any], tokenizer: dict[str, Any], last: Path, last_origin: Path
) -> tuple[bytes, dict[str, Any]]:
    """Return what the base rehearses, empty if nothing, and where it comes from.

    Args:
        base, tokenizer: their descriptors.
        last, last_origin: files with the same of the last time; in a clone, of the machine that it was pulled from.

    Raises:
        SettingsError: model.rehearsal names a file that does not exist or is empty.
    """
    wanted = sections.model.rehearsal
    if wanted == "none" or base["kind"] == "scratch" or sections.train.rehearsal_share == 0:
        return b"", {"from": "nothing"}
    if wanted != "auto":
        return _rehearsal_file(wanted), {"from": "file"}
    if brought := descriptors.rehearsal(base):
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
    vocabulary = Vocabulary.from_base(descriptors.locate_tokenizer(tokenizer))
    device = choose_device(machine.device)
    model = network.from_base(base, vocabulary.size).eval()
    if device.type == "cuda" and has_bfloat16(device):
        model = model.bfloat16()
    begin = time.monotonic()
    with fraction("writing rehearsal") as progress:
        written = list(texts(model.to(device), vocabulary, progress, TOKENS))
    write_json_lines(target, ({"text": text} for text in written))
    typer.echo(f"It wrote {counted(len(written), 'text')} in {time.monotonic() - begin:.0f} s.")

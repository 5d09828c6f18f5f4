"""The folder of a resume state: outside DVC's outs, keyed by what made it, used by one run at a time.

    .theta/train/<fingerprint>/state.pt           weights, optimizer, counters, records so far
    .theta/train/<fingerprint>/best.safetensors   weights of the lowest validation loss
    .theta/train/<fingerprint>/last_good/         weights before a loss that was not finite

DVC empties outs before a stage runs, so the state lies elsewhere. The fingerprint covers settings, tokens, base,
code, device and library versions: a state made by others is never found, let alone resumed.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from theta.errors import TrainingError
from theta.files import digest, remove, sha256

OTHERS_KEPT = 2
"""Unfinished states of other settings that are kept, the newest ones; each is three times as large as the model."""

NOT_IN_RESULT = ("steps_per_checkpoint", "devices")
"""Settings that the weights do not depend on."""


def resume_folder(settings: dict[str, Any], compute: dict[str, Any], inputs: Sequence[Path]) -> Path:
    """Where the state of a run lies: a name made of settings, device and threads, inputs by content, and code."""
    package = Path(__file__).parent.parent
    packages = ("kernels", "machine", "memory", "model", "optim", "tokens", "train")
    code = sorted(path for name in packages for path in (package / name).glob("*.py"))
    content = {
        "settings": {key: value for key, value in settings.items() if key not in NOT_IN_RESULT},
        "compute": compute,
        "inputs": [sha256(path) for path in inputs],
        "code": {path.relative_to(package).as_posix(): sha256(path) for path in code},
        "versions": [version(name) for name in ("torch", "transformers")],
    }
    # In `dvc exp run --temp` the working tree is a copy that is thrown away; DVC_ROOT is the real one.
    return Path(os.environ.get("DVC_ROOT", ".")) / ".theta" / "train" / digest(content)[:16]


@contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Claim the folder while the block runs; states of other settings beyond the newest few are removed.

    Raises:
        TrainingError: another process trains the same thing at this moment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder) as free:
        if not free:
            raise TrainingError(f"Another process is training with the same settings ({folder}); wait until it ends.")
        for leftover in folder.glob(".*.partial"):
            remove(leftover)
        states = (file.parent for file in folder.parent.glob("*/lock") if file.parent != folder)
        others = sorted(states, key=lambda path: path.stat().st_mtime)
        for other in others[:-OTHERS_KEPT]:
            with _lock(other) as unused:
                if unused:
                    remove(other)
        yield folder


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Whether this process could lock the folder; always, where the system knows no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True

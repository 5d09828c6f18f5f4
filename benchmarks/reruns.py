"""Show which change reruns which stages: make each change in a fresh clone, run `dvc repro`, and read what DVC ran.

    python benchmarks/reruns.py

The script prints the table of docs/how-it-works.md: the stages whose commands each change ran, and those that undoing
it ran. Last, it runs an experiment with settings that were run before. The clone trains a new model for one epoch on a
few conversations; the script takes about five minutes on two CPU cores.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("fetch", "prepare", "tokenize", "train", "evaluate", "export", "report")
TINY = {"base": "scratch:nano", "epochs": "1", "replies": "4", "include": "[identity.json, smalltalk.jsonl]"}
ANOTHER_MACHINE = {
    "device": "cpu",
    "devices": "1",
    "threads": "1",
    "memory": "float32",
    "precision": "float32",
    "compile": "never",
    "tokens_per_microbatch": "1024",
    "steps_per_checkpoint": "50",
}

Change = Callable[[Path], None]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "theta"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        settings(**TINY)(clone)
        ran(clone, "repro")
        print("| change | " + " | ".join(STAGES) + " | and back again |")
        print("|---" * (len(STAGES) + 2) + "|")
        for words, change in CHANGES.items():
            before = {path: path.read_bytes() for path in changeable(clone)}
            change(clone)
            forth = ran(clone, "repro")
            restore(clone, before)
            back = ran(clone, "repro")
            cells = ["runs" if stage in forth else "" for stage in STAGES]
            print(f"| {words} | {' | '.join(cells)} | {', '.join(back)} |", flush=True)
        known = ran(clone, "exp", "run", "-S", "train.learning_rate=2e-3")
        print(f"\n`dvc exp run -S train.learning_rate=2e-3`, whose result is known, ran: {', '.join(known)}")


def ran(clone: Path, *arguments: str) -> list[str]:
    """Run DVC, and return the stages whose commands it ran."""
    done = subprocess.run(["dvc", *arguments], cwd=clone, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"dvc {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return re.findall(r"Running stage '(\w+)'", done.stdout)


def changeable(clone: Path) -> list[Path]:
    """Return the files of the clone that a change may touch."""
    folders = ("Datasets/conversations", "docs", "theta", "stages")
    return [
        clone / "params.yaml",
        *(path for folder in folders for path in (clone / folder).rglob("*") if path.is_file()),
    ]


def restore(clone: Path, before: dict[Path, bytes]) -> None:
    """Undo a change."""
    for path in set(changeable(clone)) - set(before):
        path.unlink()
    for path, content in before.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


def settings(**values: str) -> Change:
    """Set keys of params.yaml, each at its first occurrence."""

    def change(clone: Path) -> None:
        path = clone / "params.yaml"
        text = path.read_text()
        for name, value in values.items():
            text, count = re.subn(rf"(?m)^(  {name}: ).*$", rf"\g<1>{value}", text, count=1)
            assert count == 1, name
        path.write_text(text)

    return change


def comment(file: str) -> Change:
    """Add a comment to a file."""

    def change(clone: Path) -> None:
        path = clone / file
        path.write_text(path.read_text() + "\n# a comment\n")

    return change


CHANGES: dict[str, Change] = {
    "nothing": lambda _: None,
    "a comment in `params.yaml`": comment("params.yaml"),
    "more conversations: `data.include`": settings(include="[]"),
    "a word in `Datasets/conversations/README.md`": comment("Datasets/conversations/README.md"),
    "`tokenizer.max_length`, no conversation that long": settings(max_length="400"),
    "`model.base`, the same vocabulary and rehearsal": settings(base="scratch:mini"),
    "`train.learning_rate`": settings(learning_rate="2e-3"),
    "every setting of `machine`": settings(**ANOTHER_MACHINE),
    "`generation.temperature`": settings(temperature="0.6"),
    "`evaluate.replies`": settings(replies="6"),
    "`export.dtype`": settings(dtype="bfloat16"),
    "code of `theta/corpus`, the same result": comment("theta/corpus/fingerprints.py"),
    "code of `theta/tokens/encode.py`, the same result": comment("theta/tokens/encode.py"),
    "code of `theta/optim`, the same result": comment("theta/optim/schedule.py"),
    "code of `theta/generate/sampling.py`, the same result": comment("theta/generate/sampling.py"),
    "code of `theta/export`, the same result": comment("theta/export/model_card.py"),
    "code of `theta/report`, the same result": comment("theta/report/page.py"),
    "code of `theta plan` (`theta/memory/forecast.py`)": comment("theta/memory/forecast.py"),
    "code of `theta/cli`": comment("theta/cli/main.py"),
    "a page of `docs`": comment("docs/architecture.md"),
}

if __name__ == "__main__":
    main()

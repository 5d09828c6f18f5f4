"""Which change reruns which stages: makes each change in a fresh clone, runs `dvc repro`, and reads what DVC ran.

    python benchmarks/reruns.py

Prints the table of the README. The clone trains a new model for an epoch on few conversations; it takes five minutes.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("fetch", "prepare", "tokenize", "train", "evaluate", "export")
TINY = {"base": "scratch:nano", "epochs": "1", "replies": "4", "include": "[identity.json, smalltalk.jsonl]"}

Change = Callable[[Path], None]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "theta"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for name, value in TINY.items():
            setting(name, value)(clone)
        repro(clone)
        print("| change | " + " | ".join(STAGES) + " |")
        print("|---" * (len(STAGES) + 1) + "|")
        for words, change in CHANGES.items():
            before = {path: path.read_bytes() for path in tracked(clone)}
            change(clone)
            ran = repro(clone)
            print(f"| {words} | " + " | ".join("runs" if stage in ran else "" for stage in STAGES) + " |", flush=True)
            restore(clone, before)
            repro(clone)


def repro(clone: Path) -> set[str]:
    """Run the pipeline; the stages that DVC ran."""
    done = subprocess.run(["dvc", "repro"], cwd=clone, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"dvc repro failed:\n{done.stdout}{done.stderr}")
    return set(re.findall(r"Running stage '(\w+)'", done.stdout))


def tracked(clone: Path) -> list[Path]:
    """The files of the clone that a change may touch."""
    folders = ("Datasets/conversations", "theta", "stages")
    return [
        clone / "params.yaml",
        *(path for folder in folders for path in (clone / folder).rglob("*") if path.is_file()),
    ]


def restore(clone: Path, before: dict[Path, bytes]) -> None:
    """Undo a change."""
    for path in set(tracked(clone)) - set(before):
        path.unlink()
    for path, content in before.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


def setting(name: str, value: str) -> Change:
    """Set a key of params.yaml; the first of that name."""

    def change(clone: Path) -> None:
        path = clone / "params.yaml"
        text, count = re.subn(rf"(?m)^(  {name}: ).*$", rf"\g<1>{value}", path.read_text(), count=1)
        assert count == 1, name
        path.write_text(text)

    return change


def comment(file: str) -> Change:
    """Add a comment to a file of code."""

    def change(clone: Path) -> None:
        path = clone / file
        path.write_text(path.read_text() + "\n# a comment\n")

    return change


CHANGES: dict[str, Change] = {
    "nothing": lambda _: None,
    "a comment in `params.yaml`": comment("params.yaml"),
    "more conversations: `data.include`": setting("include", "[]"),
    "a word in `Datasets/conversations/README.md`": comment("Datasets/conversations/README.md"),
    "`tokenizer.max_length`, no conversation that long": setting("max_length", "400"),
    "`model.base`, the same vocabulary and rehearsal": setting("base", "scratch:mini"),
    "`train.learning_rate`": setting("learning_rate", "2e-3"),
    "`generation.temperature`": setting("temperature", "0.6"),
    "`evaluate.replies`": setting("replies", "6"),
    "`export.dtype`": setting("dtype", "bfloat16"),
    "code of `theta/corpus`, the same result": comment("theta/corpus/duplicates.py"),
    "code of `theta/train`, the same result": comment("theta/train/schedule.py"),
    "code of `theta/generate/decoding.py`, the same result": comment("theta/generate/decoding.py"),
    "code of `theta/cli.py`": comment("theta/cli.py"),
}

if __name__ == "__main__":
    main()

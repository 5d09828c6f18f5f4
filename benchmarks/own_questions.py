"""Sixty questions of a small business, with nothing set but data.path: how many of its answers are given, and how soon.

    python benchmarks/own_questions.py

benchmarks/answers/own_questions.json was written for this measurement, and so were the other wordings of thirty of its
questions in own_wordings.jsonl, which nobody trained on. The stages run one after another in a temporary folder, as
`dvc repro` would run them. A reply is right if its chrF (Popovic 2015) against the trained answer is above 60.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.answers import right  # noqa: E402
from theta import ThetaModel  # noqa: E402
from theta.conversation.messages import Conversation  # noqa: E402
from theta.files import read_json_lines  # noqa: E402

QUESTIONS = ROOT / "benchmarks" / "answers"
STAGES = ("fetch", "prepare", "tokenize", "train", "evaluate", "export")


def main() -> None:
    """Print the seconds of each stage, and the answers given."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        prepare(project)
        begin = time.perf_counter()
        for stage in STAGES:
            started = time.perf_counter()
            run(stage, project)
            print(f"{stage}: {time.perf_counter() - started:.0f} s", flush=True)
        print(f"all stages: {time.perf_counter() - begin:.0f} s")
        measure(project)


def prepare(project: Path) -> None:
    """Write the project: the shipped settings, but for data.path."""
    (project / "Datasets").mkdir()
    shutil.copy(QUESTIONS / "own_questions.json", project / "Datasets")
    (project / "models").mkdir()
    (project / "models" / "starter").symlink_to(ROOT / "models" / "starter")
    settings = (ROOT / "params.yaml").read_text()
    own = settings.replace("  path: Datasets/conversations\n", "  path: Datasets/own_questions.json\n")
    assert own != settings
    (project / "params.yaml").write_text(own)


def run(stage: str, project: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages", stage]
    subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def measure(project: Path) -> None:
    """Ask the trained questions, and the new wordings of those that were trained."""
    train = read_json_lines(project / "Datasets/prepared/train.jsonl", Conversation.from_json)
    trained = {each.opening: each for each in train}
    rows = [json.loads(row) for row in (QUESTIONS / "own_wordings.jsonl").read_text().splitlines()]
    new = [(row["asked"], trained[row["question"]]) for row in rows if row["question"] in trained]
    model = ThetaModel.load(project / "models" / "theta_final")
    for name, asked in (("trained questions", list(trained.items())), ("new wordings", new)):
        print(f"{name}: {right(model, asked):.0f} of {len(asked)} right")


if __name__ == "__main__":
    main()

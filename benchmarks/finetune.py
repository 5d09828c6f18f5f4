"""What `theta finetune` keeps of the old answers, and what it learns of the new: thirty questions of a bakery.

    theta release --name base && python benchmarks/finetune.py models/base
    python benchmarks/finetune.py models/base "--learning-rate 1e-3" "--epochs 40 --rehearsal-share 2"

Each argument after the release is a case: options of `theta finetune`; without one, it runs without options. The old
questions are those of Datasets/prepared/train.jsonl, which the release was taught. The new ones, in
benchmarks/answers/bakery.jsonl, were written for this measurement; only those that a run learned are counted. A reply
is right if its chrF (Popovic 2015) against the trained answer is above 60, at the default settings of generation.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.answers import right
from theta import ThetaModel
from theta.bases.descriptors import REHEARSAL
from theta.conversation.messages import Conversation
from theta.export.release import MODEL
from theta.files import read_json_lines

NEW = Path(__file__).resolve().parent / "answers" / "bakery.jsonl"
OLD = Path("Datasets/prepared/train.jsonl")


def main() -> None:
    """Print the right answers before and after each case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("cases", nargs="*", default=[""])
    parser.add_argument("--seeds", type=int, default=1, help="how often each question is asked; figures are means")
    arguments = parser.parse_args()
    old = exchanges(OLD)
    before = count_right(arguments.release / MODEL, old, arguments.seeds)
    print(f"before: {before:.0f} of {len(old)} old answers ({before / len(old):.1%})", flush=True)
    for case in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "continued"
            seconds = finetune(arguments.release, output, case)
            new = [each for each in exchanges(output / REHEARSAL) if each.domain == NEW.stem]
            learned = count_right(output / MODEL, new, arguments.seeds)
            kept = count_right(output / MODEL, old, arguments.seeds)
        print(
            f"{case or 'no options'}: {learned:.0f} of {len(new)} new answers ({learned / len(new):.1%}), "
            f"{kept:.0f} of {len(old)} old answers ({kept / before:.1%} of before), {seconds:.0f} s",
            flush=True,
        )


def finetune(release: Path, output: Path, options: str) -> float:
    """Run `theta finetune`, and remove the experiment that it leaves; return the seconds."""
    theta, dvc = ([sys.executable, "-m", name] for name in ("theta", "dvc"))
    given = ["--model-name", str(release), "--data-path", str(NEW), "--output-dir", str(output), *shlex.split(options)]
    begin = time.perf_counter()
    done = subprocess.run([*theta, "finetune", *given], check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - begin
    name = next(line for line in done.stdout.splitlines() if line.startswith("To compare it:")).split()[-1]
    subprocess.run([*dvc, "exp", "remove", name], check=True, stdout=subprocess.DEVNULL)
    return seconds


def exchanges(file: Path) -> list[Conversation]:
    """Return the conversations of one question and one answer."""
    found = read_json_lines(file, Conversation.from_json)
    return [each for each in found if [message.role for message in each.messages] == ["user", "assistant"]]


def count_right(model: Path, asked: Sequence[Conversation], seeds: int) -> float:
    """Ask the model of a folder the questions; return how many replies are right, as a mean over the seeds."""
    return right(ThetaModel.load(model), [(each.opening, each) for each in asked], seeds)


if __name__ == "__main__":
    main()
